// The slider between the picture before and after.

const $ = (id) => document.getElementById(id);
const isCompared = () => $("frame").classList.contains("compared");

/** Cut the edit off at the left, 0 to 100 % of the picture's width. */
export function slide(percent) {
  $("slider").value = percent;
  $("slider").setAttribute("aria-valuetext", `${Math.round(percent)} % before`);
  $("frame").style.setProperty("--cut", `${percent}%`);
}

// A range's thumb alone can be hard to catch with a finger: the whole picture drags it.
$("slider").addEventListener("input", ({ target }) => slide(Number(target.value)));
$("frame").addEventListener("pointerdown", (event) => {
  if (!isCompared() || event.button) return;
  $("frame").setPointerCapture(event.pointerId);
  drag(event);
  $("slider").focus({ preventScroll: true });
});
$("frame").addEventListener("pointermove", (event) => {
  if (isCompared() && $("frame").hasPointerCapture(event.pointerId)) drag(event);
});

function drag(event) {
  event.preventDefault();
  const box = $("frame").getBoundingClientRect();
  slide(Math.min(100, Math.max(0, ((event.clientX - box.left) / box.width) * 100)));
}
