// A sheet to draw on with finger, pen or mouse. Strokes are kept as points from 0 to 1, so they can be undone and redrawn.

const SIDE = 224;
const NEAR = 0.004;

export class Sheet {
  strokes = [];
  width = 0.08;
  #canvas;
  #stroke = null;
  #changed;

  /** `changed()` after each stroke that ends or is taken back. */
  constructor(canvas, changed) {
    this.#canvas = canvas;
    this.#changed = changed;
    canvas.addEventListener("pointerdown", (event) => this.#down(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) canvas.addEventListener(end, (event) => this.#up(event));
    new ResizeObserver(() => this.redraw()).observe(canvas);
    for (const query of ["(prefers-color-scheme: dark)", "(forced-colors: active)"]) matchMedia(query).addEventListener("change", () => this.redraw());
  }

  get empty() {
    return !this.strokes.length;
  }

  undo() {
    if (this.strokes.pop()) this.#after();
  }

  clear() {
    this.strokes = [];
    this.#after();
  }

  #after() {
    this.redraw();
    this.#changed();
  }

  #down(event) {
    if (this.#stroke || event.button !== 0) return;
    event.preventDefault();
    this.#canvas.focus({ preventScroll: true, focusVisible: false });
    this.#canvas.setPointerCapture(event.pointerId);
    this.#stroke = { id: event.pointerId, width: this.width, points: [] };
    this.strokes.push(this.#stroke);
    this.#add(event);
    this.redraw();
  }

  #move(event) {
    if (this.#stroke?.id !== event.pointerId) return;
    const events = event.getCoalescedEvents?.() ?? [];
    for (const each of events.length ? events : [event]) this.#add(each);
    this.redraw();
  }

  #up(event) {
    if (this.#stroke?.id !== event.pointerId) return;
    this.#stroke = null;
    this.#changed();
  }

  #add(event) {
    const box = this.#canvas.getBoundingClientRect();
    const point = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    const last = this.#stroke.points.at(-1);
    if (!last || Math.hypot(point[0] - last[0], point[1] - last[1]) > NEAR) this.#stroke.points.push(point);
  }

  redraw() {
    const canvas = this.#canvas, side = Math.round(canvas.clientWidth * devicePixelRatio);
    if (canvas.width !== side || canvas.height !== side) canvas.width = canvas.height = side;
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, side, side);
    paint(context, this.strokes, side, getComputedStyle(canvas).color);
  }

  /** The drawing as a PNG, black on white whatever the theme. */
  toBlob() {
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = SIDE;
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.fillStyle = "#fff";
    context.fillRect(0, 0, SIDE, SIDE);
    paint(context, this.strokes, SIDE, "#000");
    // At once: toBlob would wait until the browser has nothing else to do.
    const bytes = atob(canvas.toDataURL("image/png").split(",")[1]);
    return new Blob([Uint8Array.from(bytes, (char) => char.charCodeAt(0))], { type: "image/png" });
  }
}

function paint(context, strokes, side, ink) {
  Object.assign(context, { strokeStyle: ink, fillStyle: ink, lineCap: "round", lineJoin: "round" });
  for (const { width, points } of strokes) {
    context.lineWidth = width * side;
    context.beginPath();
    context.moveTo(points[0][0] * side, points[0][1] * side);
    // Through the middles, bent at the points: a smooth line from few of them.
    for (let i = 1; i < points.length - 1; i++) {
      const [x, y] = points[i], [x2, y2] = points[i + 1];
      context.quadraticCurveTo(x * side, y * side, ((x + x2) / 2) * side, ((y + y2) / 2) * side);
    }
    const [x, y] = points.at(-1);
    context.lineTo(x * side + (points.length === 1 ? 0.01 : 0), y * side);
    context.stroke();
  }
}
