// Sorts and filters the galleries, and shows one measure of the figures by kind. Without it all of
// them are shown.

for (const section of document.querySelectorAll("section.benchmark")) {
  for (const part of section.querySelectorAll(".controls")) part.hidden = false;
  followGallery(section);
  followMeasure(section);
}

function followGallery(section) {
  const list = section.querySelector(".cards");
  const [order, direction, failed] = ["order", "direction", "failed"].map((name) => section.querySelector(`[name=${name}]`));
  const filters = [...section.querySelectorAll("select.filter")];
  const cards = [...list.children].map((element) => ({
    element,
    keys: JSON.parse(element.dataset.keys),
    options: JSON.parse(element.dataset.options),
    isFailed: "failed" in element.dataset,
  }));

  function show() {
    const sign = direction.value === "lowest" ? 1 : -1;
    const key = (card) => card.keys[Number(order.value)];
    // What has no value comes last, whichever way.
    const compare = (a, b) => (key(a) === null) - (key(b) === null) || sign * (key(a) - key(b));
    list.append(...[...cards].sort(compare).map((card) => card.element));
    const wanted = filters.filter((each) => each.value !== "").map((each) => [Number(each.dataset.number), Number(each.value)]);
    let count = 0;
    for (const card of cards) {
      const isShown = wanted.every(([number, option]) => card.options[number] === option) && (!failed?.checked || card.isFailed);
      card.element.hidden = !isShown;
      count += isShown;
    }
    section.querySelector(".count").textContent = count === cards.length ? "" : `${count} of these ${cards.length} match.`;
  }

  for (const control of [order, direction, failed, ...filters]) control?.addEventListener("change", show);
  show(); // a browser that goes back has kept what was chosen
}

function followMeasure(section) {
  const measure = section.querySelector("[name=measure]");
  if (!measure) return;
  const show = () => {
    for (const table of section.querySelectorAll("[data-measure]")) table.hidden = table.dataset.measure !== measure.value;
  };
  measure.addEventListener("change", show);
  show();
}
