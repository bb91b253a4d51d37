// Pictures of the mini world, and instructions. tests/benchmarks/serve_page.py draws the pictures.

export const EXAMPLES = [
  {
    file: "bee.webp",
    alt: "A bee and a teapot on a green background",
    reasoning: ["Show what the striped insect makes instead."],
    direct: ["Put a banana where the teapot is."],
  },
  {
    file: "cow.webp",
    alt: "A cow beside a tree on a blue background",
    reasoning: ["Show what the slow grass eater makes instead."],
    direct: ["Put a candle where the tree is."],
  },
  {
    file: "mouse.webp",
    alt: "A mouse and a key on a yellow background",
    reasoning: ["Show what the mouse loves to eat instead."],
    direct: ["Put a banana where the mouse is."],
  },
  {
    file: "caterpillar.webp",
    alt: "A caterpillar on a pink background",
    reasoning: ["Show what becomes of it when time passes."],
    direct: ["Turn the caterpillar into a car."],
  },
  {
    file: "candle.webp",
    alt: "A candle and a key on a purple background",
    reasoning: ["Bring the candle into the modern age."],
    direct: ["Put a banana where the key is."],
  },
];

/** For pictures of one's own. */
export const ANY = {
  reasoning: ["Show what it makes instead.", "Take it a hundred years back.", "Swap it for its favourite meal."],
  direct: ["Replace the dog with a cat.", "Turn the car into a bicycle."],
};
