/* The page: one panel per controller, one playhead for all. Every number comes from Python and is only shown here. */

const page = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const still = window.matchMedia("(prefers-reduced-motion: reduce)");
const dark = window.matchMedia("(prefers-color-scheme: dark)");

/** Say something to those who listen. */
function announce(words) {
  byId("announce").textContent = words;
}

/** A little square in the colour of an answer. */
function swatch(answer) {
  const square = document.createElement("i");
  square.className = "swatch";
  square.style.setProperty("--colour", page.answers[answer].colour);
  return square;
}

// --- one controller -----------------------------------------------------------------------------------

class Panel {
  constructor(side, index, seek) {
    this.side = side;
    this.index = index;
    this.frame = -1;
    side.rows = rowsOf(side.actions, page.unread, page.moves);
    const root = byId("panel").content.firstElementChild.cloneNode(true);
    this.root = root;
    root.dataset.side = index;
    byId("panels").append(root);
    this.fields = Object.fromEntries([...root.querySelectorAll("[data-field]")].map((node) => [node.dataset.field, node]));
    this.written = {};
    this.write("name", side.name);
    this.write("beta", String(side.beta));
    this.write("knobs", `${side.summary} ${Object.entries(side.knobs).map(([name, value]) => `${name} ${value}`).join(", ")}`);
    this.write("actions", count(side.actions.move.length));
    root.setAttribute("aria-label", `${side.name} at beta ${side.beta}`);
    root.querySelector(".rows").id = `log-${index}`;
    root.querySelector(".budget").hidden = page.budget === null && !page.probe_cost;
    this.grid = new Grid(root.querySelector(".grid"), page, side, seek);
    this.grid.marks.setAttribute("aria-label", `Branches by depth of ${side.name}: arrow keys point at a cell, Enter goes to its moment`);
    this.log = new Log(root.querySelector(".log"), page, side, seek);
    this.votes = new Strip(root.querySelector("canvas.votes"), votesPainter(page, side));
    this.confidence = new Strip(root.querySelector("canvas.confidence"), confidencePainter(page, side));
    this.shares = ["live", "finished", "pruned"].map((name) => root.querySelector(`.shares .${name}`));
    this.verdict = root.querySelector(".verdict");
    this.bars = this.makeBars(root.querySelector(".bars ol"));
  }

  /** A bar per answer that mattered, in an order that does not change, and one for all others. */
  makeBars(list) {
    const most = Math.max(...page.sides.flatMap((side) => side.frames.votes.flatMap((steps) => steps.value)), 1);
    return [...page.bars, NO_ANSWER].map((answer, k) => {
      const item = document.createElement("li");
      item.innerHTML =
        '<i class="swatch"></i><span class="text"></span><span class="bar"><i class="all"></i><i class="final"></i></span>' +
        '<span class="count"></span><span class="mark"></span>';
      const [square, text, bar, votes, mark] = item.children;
      item.style.setProperty("--colour", answer === NO_ANSWER ? "var(--edge)" : page.answers[answer].colour);
      text.textContent = answer === NO_ANSWER ? "all others" : page.answers[answer].text;
      text.title = text.textContent;
      list.append(item);
      item.hidden = answer === NO_ANSWER && !page.sides.some((side) => side.frames.votes[k].value.some(Boolean));
      return { answer, item, square, text, all: bar.children[0], final: bar.children[1], votes, mark, most, k };
    });
  }

  /** Write a field, unless it says so already. */
  write(field, text) {
    if (this.written[field] === text) return;
    this.written[field] = text;
    this.fields[field].textContent = text;
  }

  get last() {
    return this.side.actions.move.length;
  }

  resize() {
    const width = this.root.querySelector(".picture").clientWidth;
    const beside = getComputedStyle(byId("panels")).gridTemplateColumns.includes(" ");
    const below = beside ? 270 : 0; // side by side, votes and log stand under the grid
    this.grid.resize(width, clamp(window.innerHeight - 446 - below, beside ? 384 : 300, 700), beside);
    this.log.resize();
  }

  colour(colours) {
    this.grid.colour(colours);
    this.grid.repaint();
  }

  /** Show the episode after `frame` actions; `share` of the clock has passed. */
  show(frame, share, spoiled, trail) {
    this.votes.show(share);
    this.confidence.show(share);
    const key = `${frame} ${spoiled}`;
    if (key === this.shown && trail === this.grid.trail) return;
    this.shown = key;
    this.frame = frame;
    const { frames } = this.side;
    const ended = frame === this.last;
    const revealed = spoiled || ended;
    this.grid.show(frame, revealed, trail);
    this.log.show(frame);

    this.write("action", count(frame));
    this.write("tokens", count(frames.tokens[frame]));
    this.write("sequential", count(frames.sequential[frame]));
    for (const name of ["probes", "opened", "live", "finished", "pruned"]) this.write(name, count(stepped(frames[name], frame)));
    const budget = page.budget === null ? "" : ` of ${count(page.budget)}`;
    this.write("cost", `cost ${count(frames.cost[frame])}${budget}`);
    let done = 0;
    this.shares.forEach((bar, k) => {
      const part = stepped(frames[["live", "finished", "pruned"][k]], frame) / Math.max(page.rows, 1);
      bar.style.transform = `translateX(${done * 100}%) scaleX(${part})`;
      done += part;
    });

    const said = stepped(frames.said, frame);
    const total = stepped(frames.total, frame);
    const leader = stepped(frames.leader, frame);
    this.write("confidence", leader === NO_ANSWER ? "" : said);
    this.write("votes-label", ended ? "Final votes" : "Votes");
    const right = revealed ? ` \u00b7 ${count(stepped(frames.right, frame))} right` : "";
    this.write("total", `${count(total)} of ${count(stepped(frames.opened, frame))} branches${right}`);
    this.showVerdict(ended, revealed, leader, said);
    this.showBars(frame, revealed, leader);
  }

  showVerdict(ended, revealed, leader, said) {
    const { side } = this;
    const answer = ended ? side.answer : leader;
    const isRight = answer !== NO_ANSWER && page.answers[answer].right;
    this.write("verdict-label", ended ? "answered" : "in the lead");
    this.write("leader", answer === NO_ANSWER ? (ended ? "nothing" : "\u2013") : page.answers[answer].text);
    this.fields.leader.title = this.written.leader;
    this.verdict.classList.toggle("none", answer === NO_ANSWER);
    if (answer !== NO_ANSWER) this.verdict.style.setProperty("--colour", page.answers[answer].colour);
    this.verdict.classList.toggle("right", revealed && isRight && (ended || leader !== NO_ANSWER));
    this.verdict.classList.toggle("wrong", revealed && !isRight && (ended || leader !== NO_ANSWER));
    this.write("outcome", ended ? (side.correct ? "right" : "wrong") : "");
    const gold = `correct is ${page.gold}`;
    const confident = leader === NO_ANSWER ? "" : `confidence ${said}`;
    this.write("verdict", ended ? (side.correct ? "" : ` \u00b7 ${gold}`) : revealed ? gold : confident);
    this.fields.verdict.title = revealed ? gold : "";
  }

  showBars(frame, revealed, leader) {
    const { frames } = this.side;
    for (const bar of this.bars) {
      const votes = stepped(frames.votes[bar.k], frame);
      const finals = stepped(frames.finals[bar.k], frame);
      const key = `${votes} ${finals} ${revealed} ${leader === bar.answer}`;
      if (key === bar.shown) continue;
      bar.shown = key;
      bar.votes.textContent = count(votes);
      bar.all.style.transform = `scaleX(${votes / bar.most})`;
      bar.final.style.transform = `scaleX(${finals / bar.most})`;
      bar.item.classList.toggle("leads", leader === bar.answer && leader !== NO_ANSWER);
      bar.item.classList.toggle("unknown", votes === 0);
      const marked = revealed && bar.answer !== NO_ANSWER;
      bar.mark.textContent = marked ? (page.answers[bar.answer].right ? "\u2713" : "\u2717") : "";
      bar.mark.className = `mark ${marked ? (page.answers[bar.answer].right ? "right" : "wrong") : ""}`;
    }
  }
}

// --- the clock ----------------------------------------------------------------------------------------

/**
 * A clock that all controllers share. `values`: per controller, what it shows at each frame. `moments`: every value at
 * which something happens, with the frame of each controller there; actions that cost nothing share a value.
 */
function clockOf(kind) {
  const { sides } = page;
  const lasts = sides.map((side) => side.actions.move.length);
  const values = sides.map((side, k) => {
    if (kind === "cost") return side.frames.cost;
    return Array.from({ length: lasts[k] + 1 }, (_, frame) => (kind === "actions" ? frame : (100 * frame) / lasts[k]));
  });
  const most = Math.max(...values.map((list) => list[list.length - 1]));
  const frames = sides.map(() => [0]);
  const at = [0];
  const now = sides.map(() => 0);
  for (;;) {
    const next = sides.map((_, k) => (now[k] < lasts[k] ? values[k][now[k] + 1] : Infinity));
    const value = Math.min(...next);
    if (value === Infinity) break;
    const first = next.indexOf(value);
    next.forEach((other, k) => {
      if (k === first || (kind === "actions" && other === value)) now[k]++;
    });
    at.push(value);
    now.forEach((frame, k) => frames[k].push(frame));
  }
  const short = (value) => (value >= 1e6 ? `${count(value / 1e6)}M` : value >= 1e4 ? `${count(value / 1e3)}k` : count(value));
  const words = {
    cost: (value) => [`${count(Math.round(value))} tokens`, ` of ${count(Math.round(most))}`],
    actions: (value) => [`action ${count(value)}`, ` of ${count(most)}`],
    share: (value) => [`${value.toFixed(1)}%`, " of each run"],
  }[kind];
  const label = {
    cost: (value) => short(value),
    actions: (value) => count(value),
    share: (value) => `${value}%`,
  }[kind];
  return { kind, values, most, at, frames, words, label, last: at.length - 1 };
}

// --- the page -----------------------------------------------------------------------------------------

const SPEEDS = [0.0625, 0.125, 0.25, 0.5, 1, 2, 4, 8];
const FRACTIONS = { 0.0625: "\u00b9\u2044\u2081\u2086", 0.125: "\u215b", 0.25: "\u00bc", 0.5: "\u00bd" };

class Player {
  constructor() {
    byId("title").textContent = `${page.pool}, question ${page.question}`;
    byId("order").textContent = `order ${page.order}`;
    byId("question-start").textContent = page.text;
    byId("question-text").textContent = page.text;
    byId("panels").dataset.sides = page.sides.length;
    this.panels = page.sides.map((side, k) => new Panel(side, k, (frame) => this.seekFrame(k, frame)));
    this.timeline = new Timeline(byId("ribbons"), page);
    this.names();
    this.moment = 0;
    this.playing = false;
    this.theme = null; // the system's, until chosen
    this.makeSpeeds();
    const affordable = page.sides.some((side) => side.frames.cost[side.frames.cost.length - 1] > 0);
    document.querySelector('input[name="clock"][value="cost"]').disabled = !affordable;
    byId("share-clock").hidden = page.sides.length === 1;
    this.setClock(affordable ? "cost" : "actions");
    this.recolour();
    this.listen();
    new ResizeObserver(() => this.fit()).observe(byId("panels"));
  }

  /** Beside the timeline's ribbons, where there are several. */
  names() {
    if (page.sides.length === 1) return;
    for (const { name } of page.sides) {
      byId("names").append(Object.assign(document.createElement("span"), { textContent: name, title: name }));
    }
  }

  // --- where it stands ----------------------------------------------------------------------------

  /** Change the clock, at the same moment of the first controller that still runs. */
  setClock(kind) {
    const frames = this.clock ? this.panels.map((panel) => panel.frame) : null;
    this.clock = clockOf(kind);
    document.querySelector(`input[name="clock"][value="${kind}"]`).checked = true;
    byId("scrub").max = this.clock.most;
    this.length = clamp(this.clock.last * 0.02, 6, 30); // seconds to play it all
    this.labelSpeeds();
    this.now = 0;
    if (frames) {
      const k = frames.findIndex((frame, side) => frame < this.panels[side].last);
      this.moment = k < 0 ? this.clock.last : this.clock.frames[k].indexOf(frames[k]);
      this.now = this.clock.at[this.moment];
    }
    if (this.colours) {
      this.rebuild();
      this.show();
    }
  }

  /** Go to a moment of the clock. */
  seek(moment) {
    this.moment = clamp(moment, 0, this.clock.last);
    this.now = this.clock.at[this.moment];
    this.show();
  }

  /** Go to where a controller has taken `frame` actions. */
  seekFrame(side, frame) {
    this.pause();
    this.seek(this.clock.frames[side].indexOf(frame));
    this.say();
  }

  /** Go to a value of the clock, after everything that happens until then. */
  seekValue(value) {
    this.moment = value <= 0 ? 0 : lastAtMost(this.clock.at, value);
    this.now = value;
    this.show();
  }

  show() {
    const { clock, moment } = this;
    const share = clock.most > 0 ? this.now / clock.most : 1;
    const spoiled = byId("correct").checked;
    const trail = this.playing && !still.matches ? 14 : 0;
    this.panels.forEach((panel, k) => panel.show(clock.frames[k][moment], share, spoiled, trail));
    this.timeline.show(share);
    if (this.printed) this.panels.forEach((panel) => panel.grid.flatten());
    const [value, rest] = clock.words(clock.at[moment]);
    const words = value + rest;
    const scrub = byId("scrub");
    scrub.value = this.now;
    if (this.words !== words) {
      this.words = words;
      byId("clock").replaceChildren(value, Object.assign(document.createElement("small"), { textContent: rest }));
      scrub.setAttribute("aria-valuetext", words);
    }
  }

  say() {
    announce(this.panels.map((panel) => `${panel.side.name}: action ${panel.frame}, ${panel.log.sentence(panel.frame)}`).join("; "));
  }

  // --- playing ------------------------------------------------------------------------------------

  play() {
    if (this.moment >= this.clock.last) this.seek(0);
    this.playing = true;
    this.before = performance.now();
    this.due = 0;
    this.button();
    requestAnimationFrame((time) => this.tick(time));
  }

  pause() {
    if (!this.playing) return;
    this.playing = false;
    this.button();
    this.show();
  }

  toggle() {
    if (this.playing) this.pause();
    else this.play();
    this.say();
  }

  button() {
    const button = byId("play");
    button.classList.toggle("playing", this.playing);
    button.setAttribute("aria-label", this.playing ? "Pause" : "Play");
  }

  tick(time) {
    if (!this.playing) return;
    const passed = clamp(time - this.before, 0, 250) / 1000;
    this.before = time;
    this.due += passed;
    if (!still.matches || this.due >= 0.25) {
      const value = this.now + (this.due * Number(byId("speed").value) * this.clock.most) / this.length;
      this.due = 0;
      if (value >= this.clock.most) {
        this.seek(this.clock.last);
        this.pause();
        this.say();
        return;
      }
      this.seekValue(value);
    }
    requestAnimationFrame((next) => this.tick(next));
  }

  makeSpeeds() {
    for (const speed of SPEEDS) byId("speed").append(new Option("", speed, speed === 1, speed === 1));
  }

  labelSpeeds() {
    for (const option of byId("speed").options) {
      const speed = Number(option.value);
      const seconds = this.length / speed;
      const long = seconds >= 90 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds)} s`;
      option.textContent = `${FRACTIONS[speed] || speed}\u00d7 \u00b7 ${long}`;
    }
  }

  // --- how it looks -------------------------------------------------------------------------------

  recolour() {
    const theme = this.theme || (dark.matches ? "dark" : "light");
    document.documentElement.dataset.theme = theme;
    byId("theme-name").textContent = theme === "dark" ? "Dark" : "Light";
    byId("theme").setAttribute("aria-label", `Theme: ${theme}. Change to ${theme === "dark" ? "light" : "dark"}`);
    const style = getComputedStyle(document.documentElement);
    const names = ["page", "panel", "ground", "sunken", "line", "faint", "ghost", "edge", "dim", "ink", "accent", "good", "bad"];
    this.colours = Object.fromEntries(names.map((name) => [name, parts(style.getPropertyValue(`--${name}`))]));
    this.colours.outline = Number(style.getPropertyValue("--outline"));
    this.colours.answers = page.answers.map((answer) => parts(answer.colour));
    this.colours.sans = style.getPropertyValue("--sans");
    this.colours.glow = [255, 255, 255];
    this.colours.ribbon = this.colours.line;
    const sample = this.colours.answers[page.bars[0] || 0] || this.colours.dim;
    document.documentElement.style.setProperty("--sample", css(sample));
    document.documentElement.style.setProperty("--sample-faded", css(mixed(this.colours.ground, sample, 0.4)));
    this.resize();
  }

  /** Follow the width; the height follows by itself. */
  fit() {
    if (byId("panels").clientWidth !== this.width) this.resize();
  }

  resize() {
    this.width = byId("panels").clientWidth;
    this.panels.forEach((panel) => {
      panel.resize();
      panel.colour(this.colours);
    });
    this.rebuild();
    this.show();
  }

  rebuild() {
    const { clock, colours } = this;
    this.panels.forEach((panel, k) => {
      panel.votes.rebuild(clock.values[k], clock.most, colours);
      panel.confidence.rebuild(clock.values[k], clock.most, colours);
    });
    this.timeline.rebuild(clock, colours);
  }

  // --- what is done to it -------------------------------------------------------------------------

  step(by) {
    this.pause();
    this.seek(this.moment + by);
    this.say();
  }

  end(moment) {
    this.pause();
    this.seek(moment);
    this.say();
  }

  listen() {
    byId("first").addEventListener("click", () => this.end(0));
    byId("last").addEventListener("click", () => this.end(this.clock.last));
    byId("back").addEventListener("click", (event) => this.step(event.shiftKey ? -10 : -1));
    byId("forward").addEventListener("click", (event) => this.step(event.shiftKey ? 10 : 1));
    byId("play").addEventListener("click", () => this.toggle());
    byId("correct").addEventListener("change", () => this.show());
    byId("scrub").addEventListener("input", (event) => {
      this.pause();
      this.seekValue(Number(event.target.value));
    });
    byId("theme").addEventListener("click", () => {
      this.theme = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
      this.recolour();
    });
    dark.addEventListener("change", () => this.recolour());
    for (const radio of document.querySelectorAll('input[name="clock"]')) {
      radio.addEventListener("change", () => this.setClock(radio.value));
    }
    for (const panel of this.panels) {
      for (const strip of [panel.votes, panel.confidence]) this.listenTo(strip.canvas);
    }
    document.addEventListener("keydown", (event) => this.key(event));
    window.addEventListener("beforeprint", () => this.beginPrint());
    window.addEventListener("afterprint", () => this.endPrint());
  }

  /** A chart is a slider too. */
  listenTo(canvas) {
    const go = (event) => {
      const box = canvas.getBoundingClientRect();
      this.pause();
      this.seekValue(clamp((event.clientX - box.left) / box.width, 0, 1) * this.clock.most);
    };
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      go(event);
    });
    canvas.addEventListener("pointermove", (event) => event.buttons && go(event));
  }

  key(event) {
    if (event.defaultPrevented || event.altKey || event.ctrlKey || event.metaKey) return;
    const inside = event.target.closest ? event.target : document.body;
    const choosing = inside.closest('select, input[type="radio"]');
    const pressing = inside.closest("button, summary, input[type='checkbox'], select");
    const by = event.shiftKey ? 10 : 1;
    const tenth = Math.max(1, Math.round(this.clock.last / 20));
    if (event.key === " " && !pressing) this.toggle();
    else if (event.key === "ArrowLeft" && !choosing) this.step(-by);
    else if (event.key === "ArrowRight" && !choosing) this.step(by);
    else if (event.key === "Home" && !choosing) this.end(0);
    else if (event.key === "End" && !choosing) this.end(this.clock.last);
    else if (inside.id === "scrub" && event.key === "PageUp") this.step(tenth);
    else if (inside.id === "scrub" && event.key === "PageDown") this.step(-tenth);
    else if (inside.id === "scrub" && event.key === "ArrowUp") this.step(by);
    else if (inside.id === "scrub" && event.key === "ArrowDown") this.step(-by);
    else return;
    event.preventDefault();
  }

  /** On paper: the end, on white. */
  beginPrint() {
    this.pause();
    this.printed = { moment: this.moment, now: this.now, theme: this.theme };
    this.theme = "light";
    this.recolour();
    this.seek(this.clock.last);
  }

  endPrint() {
    if (!this.printed) return;
    const { moment, now, theme } = this.printed;
    this.printed = null;
    this.theme = theme;
    this.recolour();
    this.moment = moment;
    this.now = now;
    this.show();
  }
}

const player = new Player();
