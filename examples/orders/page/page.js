// The page shows the steps that GET /watch sends. What it shows is what it was told: it makes no state of its own.
"use strict";

const ordersShown = 30, newsShown = 5;
const $ = (id) => document.getElementById(id);

// ---- elements ----

function element(tag, className, ...children) {
  const e = document.createElement(tag);
  if (className) e.className = className;
  e.append(...children);
  return e;
}

// button has a name that tells it from its neighbours, of which only the first part is visible.
function button(text, about, path) {
  const b = element("button", "", text, element("span", "hidden", ": " + about));
  b.type = "button";
  b.addEventListener("click", () => act(b, path));
  return b;
}

const two = (n) => String(n).padStart(2, "0");

function clock(at) {
  const t = new Date(at);
  const e = element("time", "", `${two(t.getHours())}:${two(t.getMinutes())}:${two(t.getSeconds())}.${String(t.getMilliseconds()).padStart(3, "0")}`);
  e.dateTime = at;
  return e;
}

// ---- what is known ----

let orders = new Map(); // by id, the oldest first
let live = false; // false while the past is told again
let counts = { mails: 0, duplicates: 0 };

const stages = [
  ["order", "Order committed"],
  ["event", "Event written"],
  ["record", "Change record in the stream"],
  ["started", "Handler started"],
  ["finished", "Handler finished"],
  ["mail", "Mail sent"],
];
const names = { ORDER_CREATED: "Order created", ORDER_CHANGED: "Order changed" };

function forget() {
  orders = new Map();
  counts = { mails: 0, duplicates: 0 };
  live = false;
  $("orders").replaceChildren();
  count();
}

function orderOf(step) {
  let order = orders.get(step.order);
  if (!order) {
    order = { id: step.order, title: element("h3", "", "Order"), events: new Map() };
    order.element = element("li", "order", element("div", "order-head", order.title, element("code", "", step.order),
      button("Change it", "order " + step.order.slice(-4), `/orders/${encodeURIComponent(step.order)}/changes`)));
    orders.set(step.order, order);
    $("orders").prepend(order.element);
    if (orders.size > ordersShown) {
      const [oldest] = orders.values();
      oldest.element.remove();
      orders.delete(oldest.id);
    }
  }
  return order;
}

function eventOf(step) {
  const order = orderOf(step);
  let event = order.events.get(step.event);
  if (!event) {
    const name = names[step.type] || step.type;
    event = { order, name, about: element("span", ""), stages: {}, notes: element("ul", "notes"), state: "" };
    const list = element("ol", "stages");
    for (const [key, text] of stages) {
      const s = { mark: element("span", "mark", "·"), when: element("span", "when", "waiting"), detail: element("span", "detail") };
      s.mark.setAttribute("aria-hidden", "true");
      s.element = element("li", "", element("span", "name", s.mark, " " + text), s.when, s.detail);
      s.element.dataset.stage = key;
      event.stages[key] = s;
      list.append(s.element);
    }
    event.notes.hidden = true;
    event.element = element("div", "event", element("div", "event-head", element("h4", "", name), event.about,
      button("Deliver again", `${name.toLowerCase()}, order ${step.order.slice(-4)}`, `/events/${encodeURIComponent(step.event)}/again`)),
    list, event.notes);
    order.events.set(step.event, event);
    order.element.append(event.element);
  }
  return event;
}

// reach marks a stage as done, or as failed.
function reach(stage, at, detail = "", failed = false) {
  stage.element.className = failed ? "failed" : "done";
  stage.mark.textContent = failed ? "✗" : "✓";
  stage.when.replaceChildren(clock(at));
  stage.detail.replaceChildren(detail);
}

function note(event, step, text) {
  event.notes.hidden = false;
  event.notes.append(element("li", "", clock(step.at), " ", text));
  while (event.notes.children.length > 6) event.notes.firstChild.remove();
}

function tell(text) {
  if (!live) return;
  const news = $("news");
  if (!news.dataset.told) news.replaceChildren();
  news.dataset.told = "yes";
  news.append(element("p", "", text));
  while (news.children.length > newsShown) news.firstChild.remove();
}

function count() {
  let waiting = 0;
  for (const order of orders.values()) {
    for (const event of order.events.values()) if (event.state === "waiting") waiting++;
  }
  $("count-orders").textContent = orders.size;
  $("count-mails").textContent = counts.mails;
  $("count-duplicates").textContent = counts.duplicates;
  $("count-waiting").textContent = waiting;
  $("none").hidden = orders.size > 0;
}

// ---- steps ----

const place = (step) => element("code", "", `${step.shard}, ${step.sequence}`);

const take = {
  committed(step, event) {
    event.about.textContent = step.text;
    if (step.type === "ORDER_CREATED") event.order.title.textContent = step.text;
    if (!event.changed) {
      reach(event.stages.order, step.at);
      reach(event.stages.event, step.at, "same transaction");
    }
  },
  delivered(step, event) {
    if (step.changedAt && !event.changed) { // DynamoDB's own time of the transaction
      event.changed = true;
      reach(event.stages.order, step.changedAt);
      reach(event.stages.event, step.changedAt, "same transaction");
    }
    if (!event.sequence) {
      event.sequence = step.sequence;
      reach(event.stages.record, step.at, place(step));
    } else if (event.sequence !== step.sequence) {
      note(event, step, element("span", "", "Delivered again: ", place(step)));
    }
  },
  started(step, event) { reach(event.stages.started, step.at, step.redrive ? "by the redrive" : ""); },
  finished(step, event) {
    reach(event.stages.finished, step.at);
    if (step.redrive) note(event, step, "Redriven: handled, and no dead letter any more.");
    event.state = "";
  },
  failed(step, event) { reach(event.stages.finished, step.at, "failed: " + step.text, true); },
  mailed(step, event) {
    reach(event.stages.mail, step.at, `“${step.text}”`);
    counts.mails++;
    tell(`Mail sent: ${step.text}`);
  },
  duplicate(step, event) {
    event.state = "";
    counts.duplicates++;
    note(event, step, "Duplicate suppressed: the inbox knows the event, so no handler ran and no mail was sent.");
    tell(`Duplicate suppressed: ${event.name.toLowerCase()}, ${event.about.textContent}`);
  },
  dead(step, event) {
    event.state = "waiting";
    note(event, step, `Dead letter: ${step.text}.`);
    tell(`Dead letter: ${event.about.textContent}`);
  },
  parked(step, event) {
    if (event.state === "waiting") {
      note(event, step, "It is waiting as a dead letter already.");
      return;
    }
    event.state = "waiting";
    note(event, step, "Parked: it waits behind the dead letter of its order. No handler was called.");
    tell(`Parked behind the dead letter: ${event.about.textContent}`);
  },
};

function show(step) {
  if (step.stage === "redriven") {
    tell(`Redrive: ${step.text}`);
    return;
  }
  const event = eventOf(step);
  take[step.stage]?.(step, event);
  count();
}

// ---- the stream ----

function watch() {
  const source = new EventSource("/watch");
  const say = (text) => { if ($("connection").textContent !== text) $("connection").textContent = text; };
  source.onopen = () => say("Live.");
  source.addEventListener("reset", forget);
  source.addEventListener("live", () => { live = true; });
  source.onmessage = (m) => show(JSON.parse(m.data));
  source.onerror = () => {
    say("Not connected; trying again.");
    if (source.readyState === EventSource.CLOSED) setTimeout(watch, 3000); // refused; otherwise the browser tries again by itself
  };
}

// ---- actions ----

async function send(path, body) {
  let answer;
  try {
    answer = await fetch(path, { method: "POST", headers: { "Content-Type": "application/json" }, body });
  } catch {
    throw new Error("The service does not answer.");
  }
  const said = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(said.error || `The service answered with status ${answer.status}.`);
}

// act sends a request for a button, which keeps the focus and takes no second click until the answer is there.
async function act(b, path, body) {
  if (b.getAttribute("aria-disabled") === "true") return false;
  b.setAttribute("aria-disabled", "true");
  $("problem").textContent = "";
  try {
    await send(path, body);
    return true;
  } catch (err) {
    $("problem").textContent = err.message;
    return false;
  } finally {
    b.removeAttribute("aria-disabled");
  }
}

$("place").addEventListener("submit", async (e) => {
  e.preventDefault();
  const field = $("description");
  const done = await act(e.submitter || e.target.querySelector("button"), "/", JSON.stringify({ description: field.value }));
  field.setAttribute("aria-invalid", String(!done));
});
$("poison").addEventListener("click", (e) => act(e.currentTarget, "/poison"));
$("redrive").addEventListener("click", (e) => act(e.currentTarget, "/redrive"));

watch();
