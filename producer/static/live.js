// What the server tells by itself: finished pictures, and how busy it is.

import { ROOT } from "./api.js";

const CLOSE_HIDDEN_AFTER = 20_000, AGAIN_AFTER = 4000;

/** `on` has `prediction(p)`, `status(s)`, `reset()` and `connected(bool)`. */
export function listen(on) {
  let source, hiding, again;

  function open() {
    clearTimeout(again);
    source = new EventSource(`${ROOT}/v1/events`);
    source.addEventListener("open", () => on.connected(true));
    source.addEventListener("prediction", (event) => on.prediction(JSON.parse(event.data)));
    source.addEventListener("status", (event) => on.status(JSON.parse(event.data)));
    source.addEventListener("reset", () => on.reset());
    source.addEventListener("error", () => {
      on.connected(false);
      // Refused outright (every seat is taken, a proxy's error): the browser would not come back by itself.
      if (source.readyState === EventSource.CLOSED) again = setTimeout(open, AGAIN_AFTER * (1 + Math.random()));
    });
  }

  // A browser has six connections to one server: a tab that nobody looks at gives its own back.
  document.addEventListener("visibilitychange", () => {
    clearTimeout(hiding);
    if (document.hidden) hiding = setTimeout(() => (clearTimeout(again), source.close(), (source = null)), CLOSE_HIDDEN_AFTER);
    else if (!source) (open(), on.reset());
  });
  addEventListener("pagehide", () => source?.close());
  addEventListener("pageshow", (event) => event.persisted && (open(), on.reset()));
  open();
}
