// Draws the changes of many cards together: each drawing costs as much as many changes.

/** Milliseconds between two drawings, and without any change until the cards out of sight are drawn. */
const DRAW_EVERY = 50, QUIET_FOR = 500;
/** Up to this many cards are drawn at once. Of more, those in sight are drawn first, and the others in groups of this size. */
const FEW = 24;
const changed = new Set(), inSight = new WeakSet();
let drawing = 0, drawn = -Infinity, quiet = 0;

const sight = new IntersectionObserver((seen) => {
  for (const { target, isIntersecting } of seen) {
    if (isIntersecting) inSight.add(target);
    else inSight.delete(target);
  }
  if (changed.size) drawNext();
}, { rootMargin: "25%" });

/** Draws a card from now on, first of all while its element is in sight. */
export const watch = (card) => sight.observe(card.element);

export function unwatch(card) {
  sight.unobserve(card.element);
  changed.delete(card);
}

/** Calls `card.draw()` once for all changes until then. */
export function drawSoon(card) {
  changed.add(card);
  drawNext();
  clearTimeout(quiet);
  quiet = setTimeout(drawRest, QUIET_FOR);
}

function drawNext() {
  drawing ||= setTimeout(() => {
    drawing = 0;
    draw(changed.size > FEW ? [...changed].filter(({ element }) => inSight.has(element)) : [...changed]);
  }, drawn + DRAW_EVERY - performance.now());
}

function drawRest() {
  draw([...changed].slice(0, FEW));
  if (changed.size) quiet = setTimeout(drawRest);
}

function draw(cards) {
  drawn = performance.now();
  for (const card of cards) {
    changed.delete(card);
    card.draw();
  }
}
