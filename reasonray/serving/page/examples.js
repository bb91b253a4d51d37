// Pictures of the mini world, and instructions. tests/benchmarks/serve_page.py draws the pictures.

export const EXAMPLES = [
  {
    file: "bee.png",
    alt: "A bee and a teapot on a green background",
    reasoning: ["Show what it makes instead."],
    direct: ["Turn the teapot into a car."],
  },
  {
    file: "cow.png",
    alt: "A cow and a tree on a blue background",
    reasoning: ["Show what it makes instead."],
    direct: ["Replace the cow with a horse."],
  },
  {
    file: "caterpillar.png",
    alt: "A caterpillar on a pink background",
    reasoning: ["Show what becomes of it when time passes."],
    direct: ["Replace the caterpillar with a mouse."],
  },
  {
    file: "candle.png",
    alt: "A candle and a key on a purple background",
    reasoning: ["Show what people use today in place of it."],
    direct: ["Replace the key with a lock."],
  },
];

/** For pictures of one's own. */
export const ANY = {
  reasoning: ["Show what it makes instead.", "Take it a hundred years back.", "Swap it for its favourite meal."],
  direct: ["Replace the dog with a cat.", "Turn the car into a bicycle."],
};
