// What may change is painted over the picture; the form's `mask` is transparent there.

// Pixels of the painting's longer side: phones have no memory for more.
const LONGEST = 2048;

/** A painting on a canvas that lies over the picture, by mouse, finger, pen or keys. */
export class Mask {
  /**
   * @param canvas over the picture, of its shape on the screen
   * @param ring an element that shows the brush, in the same box as the canvas
   * @param changed called after each stroke
   */
  constructor(canvas, ring, changed) {
    Object.assign(this, { canvas, ring, changed, erases: false, size: 0.1, isEmpty: true });
    this.pen = canvas.getContext("2d", { willReadFrequently: true });
    this.last = null;
    canvas.addEventListener("pointerdown", (event) => this.#down(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => this.#up());
    canvas.addEventListener("pointerleave", () => (ring.hidden = true));
    canvas.addEventListener("keydown", (event) => this.#key(event));
    canvas.addEventListener("blur", () => (ring.hidden = true));
  }

  /** Begin anew, for a picture of this size. */
  fit(width, height) {
    const scale = Math.min(1, LONGEST / Math.max(width, height));
    this.whole = [width, height];
    this.canvas.width = Math.max(1, Math.round(width * scale));
    this.canvas.height = Math.max(1, Math.round(height * scale));
    this.place = [this.canvas.width / 2, this.canvas.height / 2];
    this.isEmpty = true;
  }

  clear() {
    this.pen.clearRect(0, 0, this.canvas.width, this.canvas.height);
    this.isEmpty = true;
    this.changed();
  }

  /** What is painted, to be put back later; null where nothing is. */
  copy() {
    if (this.isEmpty) return null;
    const copy = document.createElement("canvas");
    [copy.width, copy.height] = [this.canvas.width, this.canvas.height];
    copy.getContext("2d").drawImage(this.canvas, 0, 0);
    return copy;
  }

  put(copy) {
    this.clear();
    if (copy) this.pen.drawImage(copy, 0, 0);
    this.isEmpty = !copy;
    this.changed();
  }

  /** A PNG of the picture's size for the form, or null where nothing is painted. */
  async file() {
    if (this.isEmpty) return null;
    const whole = document.createElement("canvas");
    [whole.width, whole.height] = this.whole;
    const pen = whole.getContext("2d");
    pen.fillRect(0, 0, whole.width, whole.height);
    pen.globalCompositeOperation = "destination-out";
    pen.imageSmoothingEnabled = false;
    pen.drawImage(this.canvas, 0, 0, whole.width, whole.height);
    return new Promise((resolve) => whole.toBlob(resolve, "image/png"));
  }

  get #width() {
    return Math.max(1, this.size * Math.max(this.canvas.width, this.canvas.height));
  }

  #down(event) {
    if (event.button) return;
    event.preventDefault();
    this.canvas.focus({ preventScroll: true });
    this.canvas.setPointerCapture(event.pointerId);
    this.last = this.#at(event);
    this.#stroke(this.last);
  }

  #move(event) {
    this.place = this.#at(event);
    this.#show();
    if (!this.last) return;
    for (const each of event.getCoalescedEvents?.() ?? [event]) this.#stroke(this.#at(each));
    this.#stroke(this.place);
  }

  #up() {
    if (!this.last) return;
    this.last = null;
    this.#look();
  }

  #key(event) {
    const ways = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const way = ways[event.key];
    if (!way && event.key !== " ") return;
    event.preventDefault();
    const from = this.place;
    if (way) {
      const step = this.#width / (event.shiftKey ? 1 : 4);
      const sides = [this.canvas.width, this.canvas.height];
      this.place = from.map((value, axis) => Math.min(sides[axis], Math.max(0, value + way[axis] * step)));
    } else {
      this.last = this.place;
      this.#stroke(this.place);
      this.#up();
    }
    this.#show();
  }

  #at(event) {
    const box = this.canvas.getBoundingClientRect();
    return [
      ((event.clientX - box.left) / box.width) * this.canvas.width,
      ((event.clientY - box.top) / box.height) * this.canvas.height,
    ];
  }

  #stroke(to) {
    const { pen } = this;
    pen.globalCompositeOperation = this.erases ? "destination-out" : "source-over";
    pen.strokeStyle = getComputedStyle(this.canvas).color;
    pen.lineWidth = this.#width;
    pen.lineCap = pen.lineJoin = "round";
    pen.beginPath();
    pen.moveTo(...this.last);
    pen.lineTo(to[0] + 0.01, to[1]); // a line without a length would be nothing
    pen.stroke();
    pen.globalCompositeOperation = "source-over";
    this.last = to;
  }

  #look() {
    const { data } = this.pen.getImageData(0, 0, this.canvas.width, this.canvas.height);
    this.isEmpty = true;
    for (let at = 3; at < data.length && this.isEmpty; at += 4) this.isEmpty = data[at] < 255;
    this.changed();
  }

  #show() {
    const { ring, canvas } = this;
    const share = canvas.clientWidth / canvas.width;
    ring.hidden = false;
    ring.style.width = ring.style.height = `${this.#width * share}px`;
    ring.style.transform = `translate(${this.place[0] * share}px, ${this.place[1] * share}px) translate(-50%, -50%)`;
  }
}
