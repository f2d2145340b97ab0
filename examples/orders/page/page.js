// The page shows the steps that GET /watch sends. What it shows is what it was told: it makes no state of its own.
"use strict";

const ordersShown = 30, newsShown = 5, newsPause = 400;
const $ = (id) => document.getElementById(id);

// ---- elements ----

function element(tag, className, ...children) {
  const e = document.createElement(tag);
  if (className) e.className = className;
  e.append(...children);
  return e;
}

// foreign is text that somebody else wrote: it does not turn the direction of what is around it.
const foreign = (text) => element("bdi", "", text);

// button has a name that tells it from its neighbours, of which only the first part is visible. body makes what it sends.
function button(text, about, path, body) {
  const b = element("button", "", text, element("span", "hidden", ": " + about));
  b.type = "button";
  b.addEventListener("click", () => act(b, path, body?.()));
  return b;
}

const two = (n) => String(n).padStart(2, "0");

function clock(at) {
  const t = new Date(at);
  const e = element("time", "", `${two(t.getHours())}:${two(t.getMinutes())}:${two(t.getSeconds())}`);
  e.dateTime = at;
  return e;
}

// later says how long after its order was committed something happened.
function later(from, at) {
  const ms = Math.max(0, Math.round(new Date(at) - new Date(from)));
  const text = ms < 1000 ? `${ms} ms` : ms < 60e3 ? `${(ms / 1000).toFixed(1)} s` : ms < 3600e3 ? `${Math.floor(ms / 60e3)} min` : `${Math.floor(ms / 3600e3)} h`;
  const e = element("time", "", `+ ${text}`);
  e.dateTime = at;
  return e;
}

const place = (step) => `shard ${Number(step.shard.replace(/^shardId-/, ""))}, …\u2060${step.sequence.slice(-6)}`;

// ---- what is known ----

let orders = new Map(); // by id, the oldest first
let live = false; // false while the past is told again
let latest = ""; // the id of the event that was delivered last

const stages = [["order", "Order"], ["event", "Event"], ["record", "Change record"], ["handler", "Handler"], ["mail", "Mail"]];
const marks = { "": "", now: "…", done: "✓", failed: "✗", held: "‖" };
const names = { ORDER_CREATED: "Order created", ORDER_CHANGED: "Order changed" };

function forget() {
  orders = new Map();
  live = false;
  setLatest("");
  $("orders").replaceChildren();
    $("more").hidden = true;
  $("none").hidden = false;
  count({ orders: 0, mails: 0, duplicates: 0, waiting: 0 });
}

function setLatest(id) {
  latest = id;
  $("again").setAttribute("aria-disabled", String(!id));
}

function orderOf(step) {
  let order = orders.get(step.order);
  if (order) return order;
  order = { id: step.order, title: element("h3", "", "Order"), events: new Map() };
  const problem = element("p", "problem");
  problem.setAttribute("role", "alert");
  order.element = element("li", "order", element("div", "order-head", order.title, element("code", "", step.order),
    button("Change it", "order " + step.order.slice(-4), `/orders/${encodeURIComponent(step.order)}/changes`,
    () => JSON.stringify({ description: `changed at ${new Date().toTimeString().slice(0, 8)}` }))), problem);
  orders.set(step.order, order);
  $("orders").prepend(order.element);
  $("none").hidden = true;
  if (orders.size > ordersShown) drop();
  return order;
}

// drop removes the oldest order with which nobody is busy.
function drop() {
  for (const order of orders.values()) {
    const waiting = [...order.events.values()].some((e) => e.waits);
    if (waiting || order.element.contains(document.activeElement)) continue;
    order.element.remove();
    orders.delete(order.id);
    $("more").hidden = false;
    return;
  }
}

function eventOf(step) {
  const order = orderOf(step);
  let event = order.events.get(step.event);
  if (event) return event;
  const name = names[step.type] || step.type;
  event = { name, text: "", about: element("bdi", "about"), state: element("span", "state", "on its way"), stages: {}, notes: element("ul", "notes"), noteOf: {}, waits: false, duplicates: 0 };
  const list = element("ol", "stages");
  for (const [key, text] of stages) {
    const s = { mark: element("span", "mark"), when: element("span", "when", "not yet"), detail: element("span", "detail"), is: "" };
    s.mark.setAttribute("aria-hidden", "true");
    s.element = element("li", "", s.mark, element("span", "name", text), s.when, s.detail);
    s.element.dataset.stage = key;
    event.stages[key] = s;
    list.append(s.element);
  }
  event.notes.hidden = true;
  event.element = element("div", "event", element("div", "", element("h4", "", name), event.about, event.state), list,
    button("Deliver again", `${name.toLowerCase()}, order ${step.order.slice(-4)}`, `/events/${encodeURIComponent(step.event)}/again`), event.notes);
  order.events.set(step.event, event);
  order.element.append(event.element);
  return event;
}

// reach says where an event stands at a stage. The stages before it were reached, even if nobody was told.
function reach(event, key, is, when, detail = "") {
  for (const [before] of stages) {
    if (before === key) break;
    if (event.stages[before].is === "") set(event.stages[before], "done", "before");
  }
  set(event.stages[key], is, when, detail);
}

function set(stage, is, when, detail = "") {
  stage.element.className = is + (live && stage.is !== is ? " new" : "");
  stage.is = is;
  stage.mark.textContent = marks[is];
  stage.when.replaceChildren(when);
  stage.detail.replaceChildren(detail);
}

function setState(event, kind, text) {
  event.waits = kind === "bad" || kind === "held";
  event.state.className = "state " + kind;
  event.state.textContent = text;
}

// note writes something about an event in the place of what was written about the same matter before.
function note(event, step, kind, matter, ...text) {
  event.noteOf[matter]?.remove();
  event.noteOf[matter] = element("li", kind, clock(step.at), " ", ...text);
  event.notes.hidden = false;
  event.notes.append(event.noteOf[matter]);
}

function count(counts) {
  for (const [what, n] of Object.entries(counts)) $("count-" + what).textContent = n;
}

// ---- news: what is read out, a few lines at a time ----

let news = [], newsTimer = 0, toldBefore = false;

function tell(...text) {
  if (!live) return;
  news.push(text);
  newsTimer ||= setTimeout(() => {
    newsTimer = 0;
    const last = news.slice(-newsShown);
    if (news.length > newsShown) last.splice(0, 1, [`${news.length - newsShown + 1} more things happened.`]);
    news = [];
    const box = $("news");
    if (!toldBefore) box.replaceChildren();
    toldBefore = true;
    box.append(...last.map((line) => element("p", "", ...line)));
    while (box.children.length > newsShown) box.firstChild.remove();
  }, newsPause);
}

// ---- steps ----

const again = "The inbox knows the event: no handler ran, no mail was sent.";

const take = {
  committed(step, event) {
    describe(step, event);
    if (!event.from) committedAt(event, step.at);
  },
  delivered(step, event) {
    describe(step, event);
    if (!event.told) { // DynamoDB's own time of the transaction
      event.told = true;
      committedAt(event, step.changedAt || step.at);
    }
    if (!event.sequence) {
      event.sequence = step.sequence;
      reach(event, "record", "done", later(event.from, step.at), place(step));
    }
    setLatest(step.event);
  },
  healed(step, event) {
    describe(step, event);
    reach(event, "record", "held", "not there", "a later event came first");
    note(event, step, "good", "healed", element("strong", "", "Read from the table."), " A later event of the order came first, so this one was handled before it.");
    tell("Read from the table: ", foreign(event.text));
  },
  started(step, event) {
    event.started = step.at;
    reach(event, "handler", "now", "runs");
  },
  finished(step, event) {
    reach(event, "handler", "done", later(event.from, event.started || step.at), step.redrive ? "called by the redrive" : "");
    setState(event, "good", event.stages.mail.is === "done" ? "mail sent" : "handled");
    if (step.redrive) note(event, step, "good", "dead", "Redriven: handled, and no dead letter any more.");
  },
  failed(step, event) { reach(event, "handler", "failed", "failed", step.text); },
  mailed(step, event) {
    reach(event, "mail", "done", later(event.from, step.at), foreign(step.text));
    tell("Mail sent: ", foreign(step.text));
  },
  duplicate(step, event) {
    setState(event, "good", event.stages.mail.is === "done" ? "mail sent" : "handled");
    if (step.redrive) { // an earlier redrive has handled it, and was stopped before it removed the dead letter
      note(event, step, "good", "dead", "Redriven: it had been handled, and is no dead letter any more.");
      return;
    }
    event.duplicates++;
    note(event, step, "good", "duplicate", element("strong", "", event.duplicates === 1 ? "Duplicate suppressed." : `${event.duplicates} duplicates suppressed.`), ` Delivered again (${place(step)}). ${again}`);
    tell(`Duplicate suppressed: ${event.name.toLowerCase()}, `, foreign(event.text));
  },
  dead(step, event) {
    setState(event, "bad", "dead letter");
    note(event, step, "bad", "dead", element("strong", "", "Dead letter."), " It is kept with its error. Later events of the order wait behind it.");
    tell("Dead letter: ", foreign(event.text));
  },
  parked(step, event) {
    if (event.waits) {
      note(event, step, "held", "parked", "Delivered again while it waits. It is kept once.");
      return;
    }
    setState(event, "held", "parked");
    reach(event, "handler", "held", "not called");
    note(event, step, "held", "dead", element("strong", "", "Parked"), " behind the dead letter of its order, so that the order of its events survives.");
    tell("Parked behind the dead letter: ", foreign(event.text));
  },
};

function describe(step, event) {
  if (!step.text || event.text) return;
  event.text = step.text;
  const order = orders.get(step.order);
  if (step.type === "ORDER_CREATED") order.title.replaceChildren(foreign(step.text));
  else event.about.textContent = step.text;
}

function committedAt(event, at) {
  event.from = at;
  set(event.stages.order, "done", clock(at));
  set(event.stages.event, "done", "same transaction");
}

function show(step) {
  count(step.counts);
  if (step.stage === "redriven") tell(`Redrive: ${step.text}`);
  else take[step.stage]?.(step, eventOf(step));
}

// ---- the stream ----

let source, lastID = "";

function connection(on, text) {
  const e = $("connection");
  e.className = on ? "on" : "off";
  if (e.textContent !== text) e.textContent = text;
}

function watch() {
  source?.close(); // never two at a time
  if (document.hidden) return;
  source = new EventSource("/watch?after=" + encodeURIComponent(lastID));
  source.onopen = () => connection(true, "Live");
  source.addEventListener("reset", forget);
  source.addEventListener("live", () => { live = true; });
  source.onmessage = (m) => {
    lastID = m.lastEventId;
    show(JSON.parse(m.data));
  };
  source.onerror = () => {
    connection(false, "Not connected, trying again");
    if (source.readyState === EventSource.CLOSED) setTimeout(watch, 2000); // refused; otherwise the browser tries again by itself
  };
}

// A browser has few connections to one server, so a page that nobody sees gives its own away.
document.addEventListener("visibilitychange", () => {
  if (document.hidden) source?.close();
  else if (!source || source.readyState === EventSource.CLOSED) watch();
});

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
  const problem = b.closest("section, .order").querySelector(".problem");
  b.setAttribute("aria-disabled", "true");
  problem.textContent = "";
  try {
    await send(path, body);
    return true;
  } catch (err) {
    problem.textContent = err.message;
    return false;
  } finally {
    b.setAttribute("aria-disabled", String(b === $("again") && !latest));
  }
}

$("place").addEventListener("submit", async (e) => {
  e.preventDefault();
  const field = $("description");
  field.setAttribute("aria-invalid", "false");
  const done = await act(e.target.querySelector("button"), "/", JSON.stringify({ description: field.value }));
  field.setAttribute("aria-invalid", String(!done));
});
$("again").addEventListener("click", (e) => act(e.currentTarget, `/events/${encodeURIComponent(latest)}/again`));
$("lose").addEventListener("click", async (e) => {
  if (await act(e.currentTarget, "/lose")) tell("The next change record will be lost.");
});
$("poison").addEventListener("click", (e) => act(e.currentTarget, "/poison"));
$("redrive").addEventListener("click", (e) => act(e.currentTarget, "/redrive"));

for (const e of document.querySelectorAll("[data-script]")) e.hidden = false;
document.querySelector(".actions").classList.add("all");
watch();
