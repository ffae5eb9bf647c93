/* The action log: thousands of rows, of which only those in sight exist. */

const ROW_HEIGHT = 24;

class Log {
  constructor(root, page, side, seek) {
    this.page = page;
    this.side = side;
    this.seek = seek;
    this.rows = root.querySelector(".rows");
    this.sheet = root.querySelector(".sheet");
    this.pool = new Map(); // action -> its row
    this.frame = 0;
    this.seen = 0; // pixels scrolled
    this.wanted = 0; // what the page shows; the log follows
    this.timer = 0;
    this.free = 0; // until when the reader scrolls, and the log does not
    this.moves = Object.fromEntries(Object.entries(page.moves).map(([name, value]) => [value, name]));
    this.sheet.style.height = `${side.actions.move.length * ROW_HEIGHT}px`;
    this.rows.setAttribute("aria-label", `Actions of ${side.name}`);
    this.rows.addEventListener("scroll", () => {
      if (Math.abs(this.seen - this.rows.scrollTop) < 1) return; // our own doing
      this.seen = this.rows.scrollTop;
      this.fill();
    });
    new ResizeObserver(() => this.resize()).observe(this.rows);
    for (const kind of ["wheel", "touchmove", "pointerdown"]) {
      this.rows.addEventListener(kind, () => (this.free = performance.now() + 2500), { passive: true });
    }
    this.rows.addEventListener("click", (event) => {
      const row = event.target.closest(".row");
      if (row) this.seek(Number(row.dataset.action));
    });
    this.rows.addEventListener("keydown", (event) => {
      const page = Math.max(1, Math.floor(this.height / ROW_HEIGHT) - 1);
      const last = this.side.actions.move.length;
      const to = {
        ArrowUp: this.wanted - 1, ArrowDown: this.wanted + 1, PageUp: this.wanted - page, PageDown: this.wanted + page,
        Home: 0, End: last,
      }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      event.stopPropagation();
      this.free = 0;
      this.seek(clamp(to, 0, last));
    });
  }

  resize() {
    this.height = this.rows.clientHeight;
    this.update();
  }

  /** Mark the action after which the episode stands, and bring it into sight: at once, but no faster than eyes follow. */
  show(frame) {
    this.wanted = frame;
    if (this.timer) return;
    this.update();
    this.timer = setTimeout(() => {
      this.timer = 0;
      if (this.wanted !== this.frame) this.show(this.wanted);
    }, 100);
  }

  update() {
    const before = this.frame;
    const frame = this.wanted;
    this.frame = frame;
    for (const action of [before, frame]) this.state(action);
    for (const action of this.pool.keys()) if (action > Math.min(before, frame) - 1) this.state(action);
    this.rows.setAttribute("aria-activedescendant", frame > 0 ? this.name(frame) : "");
    if (performance.now() >= this.free) this.follow();
    this.fill();
  }

  /** Scroll so that the current action is in sight. */
  follow() {
    const y = (this.frame - 1) * ROW_HEIGHT;
    const wanted = clamp(y - this.height * 0.6, 0, Math.max(0, this.side.actions.move.length * ROW_HEIGHT - this.height));
    if (Math.abs(wanted - this.seen) >= 1) {
      this.seen = wanted;
      this.rows.scrollTop = wanted;
    }
  }

  /** Make the rows in sight exist, and no others. */
  fill() {
    const first = Math.max(1, Math.floor(this.seen / ROW_HEIGHT));
    const last = Math.min(this.side.actions.move.length, Math.ceil((this.seen + this.height) / ROW_HEIGHT) + 1);
    const spare = [];
    for (const [action, row] of this.pool) {
      if (action < first || action > last) {
        this.pool.delete(action);
        spare.push(row);
      }
    }
    for (let action = first; action <= last; action++) {
      if (this.pool.has(action)) continue;
      const row = spare.pop() || this.made();
      this.pool.set(action, row);
      this.write(row, action);
      this.state(action);
    }
    spare.forEach((row) => row.remove());
  }

  made() {
    const row = document.createElement("div");
    row.className = "row";
    row.setAttribute("role", "option");
    row.innerHTML =
      '<span class="number"></span><span class="move"></span><span class="branch"></span>' +
      '<span class="answer"><i class="swatch"></i><span></span></span><span class="cost"></span>';
    this.sheet.append(row);
    return row;
  }

  name(action) {
    return `${this.rows.id}-${action}`;
  }

  write(row, action) {
    const { actions } = this.side;
    const k = action - 1;
    const [number, move, branch, answer, cost] = row.children;
    row.id = this.name(action);
    row.dataset.action = action;
    row.style.transform = `translateY(${k * ROW_HEIGHT}px)`;
    row.setAttribute("aria-posinset", action);
    row.setAttribute("aria-setsize", actions.move.length);
    number.textContent = count(action);
    move.textContent = this.words(k);
    branch.textContent = actions.branch[k] >= 0 ? `branch ${actions.branch[k]}` : "";
    cost.textContent = actions.billed[k] ? `+${count(actions.billed[k])}` : "";
    const [square, text] = answer.children;
    const revealed = actions.answer[k];
    square.hidden = revealed < 0;
    if (revealed >= 0) square.style.setProperty("--colour", this.page.answers[revealed].colour);
    text.textContent = revealed >= 0 ? this.page.answers[revealed].text : revealed === NO_ANSWER ? "no answer" : "";
  }

  words(k) {
    const { move, ended } = this.side.actions;
    const name = this.moves[move[k]];
    if (ended[k] && name !== "PRUNE") return "ended";
    return { BRANCH: "opened", CONTINUE: "continued", PROBE: "read", PRUNE: "pruned", ANSWER: "answered", END_ROUND: "round" }[name];
  }

  /** An action in words, for those who listen. */
  sentence(frame) {
    if (frame === 0) return "nothing opened yet";
    const { actions } = this.side;
    const answer = actions.answer[frame - 1];
    const text = answer === this.page.unread ? "" : answer === NO_ANSWER ? ": no answer" : `: ${this.page.answers[answer].text}`;
    const branch = actions.branch[frame - 1] >= 0 ? `branch ${actions.branch[frame - 1]} ` : "";
    return `${branch}${this.words(frame - 1)}${text}`;
  }

  state(action) {
    const row = this.pool.get(action);
    if (!row) return;
    row.classList.toggle("now", action === this.frame);
    row.classList.toggle("later", action > this.frame);
    row.setAttribute("aria-selected", action === this.frame);
  }
}
