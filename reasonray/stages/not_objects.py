"""Nouns of captions that are no replaceable objects, and words that belong together.

Singular, lower case. A list rather than a model: it can be read, argued about and added to.
"""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


PEOPLE = _words(
    """
    man woman boy girl guy lady gentleman person people human child kid baby toddler infant teen
    teenager adult couple family friend crowd audience team crew gang mother father mom dad parent
    brother sister son daughter grandmother grandfather husband wife bride groom bridesmaid
    player skier snowboarder surfer skater skateboarder swimmer runner jogger cyclist bicyclist
    biker rider driver passenger pedestrian batter catcher pitcher umpire referee golfer boxer
    athlete goalie coach officer policeman fireman firefighter soldier sailor worker farmer chef
    cook baker waiter waitress bartender barista doctor nurse dentist teacher student pupil
    businessman businesswoman musician guitarist drummer pianist singer dancer actor actress
    artist painter photographer model vendor seller shopper customer tourist visitor spectator
    cowboy king queen prince princess priest monk nun somebody someone anybody everyone male female
    """
)

BODY = _words(
    """
    hand finger thumb arm elbow wrist shoulder leg knee foot toe head face hair eye eyebrow ear
    nose mouth lip tooth tongue neck chin cheek beard mustache body back chest belly stomach skin
    lap waist hip tail paw fur hoof beak snout whisker mane trunk
    """
)

PLACES = _words(
    """
    place area spot location site scene region city town village country neighborhood downtown
    street road avenue alley highway freeway intersection crosswalk sidewalk pavement driveway path
    trail track lane lot parking yard backyard courtyard garden park playground zoo farm ranch
    stable field meadow pasture lawn forest wood jungle desert hill hillside mountain mountainside
    valley canyon cliff slope coast shore shoreline beach bay harbor marina pier dock island sea
    ocean lake pond river stream creek waterfall pool room bedroom bathroom kitchen office
    classroom restroom hallway corridor lobby entrance home apartment
    hotel hospital school museum library store shop market supermarket mall
    restaurant cafe bakery diner garage stadium arena court rink gym airport runway station
    terminal platform warehouse factory tunnel plaza square fairground inside outside
    outdoors indoors world earth land landscape cityscape skyline horizon habitat enclosure
    sky ground floor ceiling wall grass dirt sand mud water snow ice air sun sunlight sunshine
    moonlight cloud fog mist rain weather space surface surrounding countryside terrain
    """
)

ABSTRACT = _words(
    """
    time day night morning afternoon evening noon dusk dawn sunset sunrise summer winter spring
    autumn fall season year month week hour minute moment date life love peace fun joy happiness
    beauty idea concept thought dream memory history story event party wedding ceremony celebration
    birthday holiday vacation trip journey travel adventure competition contest match race
    tournament show performance concert meeting conversation conference class lesson job work
    business activity action motion movement flight jump trick stunt ride wave pose gesture smile
    look expression attention interest help use way manner direction distance height size shape
    form length width weight speed power energy light lighting shade shadow reflection darkness
    contrast focus blur sound noise music song voice smell taste temperature heat cold color colour
    hue tone style design pattern texture theme mood atmosphere feeling thing stuff item object
    something anything nothing everything kind type sort example case fact name word letter number
    text logo symbol title caption message information detail preparation process progress
    condition state situation position arrangement order display line formation collection
    selection assortment variety mixture combination game sport traffic transportation nature
    wildlife animal creature lunch dinner breakfast meal view rest attempt wind breeze
    """
)

PICTURE = _words(
    """
    photo photograph photography picture pic image shot snapshot closeup close-up close view scene
    background backdrop foreground drawing sketch illustration rendering render artwork cartoon
    clipart clip graphic vector icon screenshot frame footage still portrait depiction scenery
    panorama selfie wallpaper black-and-white art stock version up
    """
)

SIDES = _words(
    """
    top bottom left right front rear side middle center centre edge corner end half part section
    rest inside outside interior exterior underside base tip point portion other another each same
    north south east west upper lower distance next
    """
)

QUANTITIES = _words(
    """
    group bunch pair couple trio set lot number few several handful dozen hundred thousand pile
    stack heap row line series bit piece slice chunk cluster array herd flock pack school swarm
    litter load amount plenty ton variety assortment collection range one two three four five six
    seven eight nine ten many some any all both none spoonful roll
    """
)

COLOURS = _words(
    """
    white black gray grey red green blue yellow orange pink purple brown tan beige gold golden
    silver turquoise teal violet maroon navy cream colorful colourful multicolored dark bright pale
    """
)

DROPPED_MODIFIERS = COLOURS | PEOPLE | PLACES | QUANTITIES | SIDES | PICTURE
"""Left out in front of a noun, unless both stand in `COMPOUNDS`."""

DROPPED_HEADS = (
    PEOPLE | BODY | PLACES | ABSTRACT | PICTURE | SIDES | QUANTITIES | COLOURS - {"orange"}
)
"""No categories, unless at the end of a compound in `COMPOUNDS`; an orange is a fruit."""

PERSON_ENDINGS = ("man", "person", "people", "girl", "boy")
"""Of closed compounds for people ("mailman", "cowgirl")."""

NOT_PEOPLE = _words("snowman ottoman talisman caiman")
"""What ends like one of them and is an object."""

COMPOUNDS = frozenset(
    line.strip()
    for line in """
    alarm clock
    baby bottle
    baby carriage
    baby stroller
    baking sheet
    bald eagle
    black bear
    bird house
    blue jay
    brown bear
    cell phone
    clock tower
    cutting board
    dining table
    dog house
    electric guitar
    fire hydrant
    fire truck
    flower arrangement
    french fry
    frying pan
    golden retriever
    grand piano
    grilled cheese
    guinea pig
    high chair
    hot dog
    ice cream
    ice cream cone
    light bulb
    light fixture
    lounge chair
    mobile phone
    musical instrument
    night stand
    orange juice
    orange tree
    paper towel
    park bench
    parking meter
    picture frame
    polar bear
    police car
    potted plant
    power line
    race car
    racing car
    red panda
    remote control
    rocking chair
    rubber duck
    running shoe
    school bus
    sewing machine
    shopping cart
    side table
    sleeping bag
    soft drink
    solar panel
    stained glass
    steering wheel
    stop sign
    street lamp
    street light
    street sign
    stuffed animal
    sweet potato
    traffic light
    traffic sign
    train car
    vending machine
    video game controller
    washing machine
    water bottle
    water buffalo
    watering can
    wedding cake
    wedding dress
    whipped cream
    wind turbine
    """.strip().splitlines()
)
"""Objects whose name is more, or less, than a run of nouns."""

ING_NOUNS = _words(
    """
    awning bedding building ceiling clothing covering crossing dressing drawing duckling earring
    flooring frosting fitting icing king lightning lining lodging marking painting pudding railing
    ring rigging rug sapling seedling shelving siding sling spring starling stocking string stuffing
    swing thing topping tubing wedding wing wiring wrapping gosling dumpling
    """
)
"""Nouns in -ing; all others are taken for verbs ("a cat sitting")."""

IRREGULAR = {
    "axes": "axe",
    "brownies": "brownie",
    "cacti": "cactus",
    "cookies": "cookie",
    "geese": "goose",
    "oxen": "ox",
    "skis": "skis",
    "smoothies": "smoothie",
    "vases": "vase",
}
"""Plurals that spaCy gets wrong, or takes for other words."""

PLURAL_ONLY = _words(
    """
    scissors sunglasses glasses binoculars headphones earphones goggles tongs pliers tweezers jeans
    pants trousers shorts leggings tights pajamas clothes
    """
)
"""Left in the plural."""
