/* Reading what Python computed, and the branch x depth grid. */

const NO_ANSWER = -1;

/** The index of the last entry of a sorted list that is at most `value`; -1 if there is none. */
function lastAtMost(sorted, value) {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle] <= value) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

/** What a list of steps {at, value} says after `frame` actions. */
function stepped(steps, frame) {
  return steps.value[lastAtMost(steps.at, frame)];
}

const count = (number) => number.toLocaleString("en-US");
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

/** Colours as [red, green, blue], so that they can be mixed. */
function parts(code) {
  const hex = code.trim().replace("#", "");
  return [0, 2, 4].map((at) => parseInt(hex.slice(at, at + 2), 16));
}
const css = (colour) => `rgb(${colour.map(Math.round).join(" ")})`;
const mixed = (a, b, share) => a.map((part, k) => part + (b[k] - part) * share);
const isLight = (colour) => colour[0] + colour[1] + colour[2] > 330;

/**
 * The grid's rows from the actions: per branch the action that generated each cell (`made`), the one that read it
 * (`read`, Infinity for none) and the answer read; when the branch ended or was pruned (`closed`, Infinity for never);
 * and the answers it revealed, as steps. Actions count from 1, as the frames after them do.
 */
function rowsOf(actions, unread, moves) {
  const rows = [];
  actions.move.forEach((move, k) => {
    const action = k + 1;
    const i = actions.branch[k];
    if (i < 0) return;
    if (move === moves.BRANCH) {
      rows.push({ made: [], read: [], answer: [], closed: Infinity, pruned: false, reveals: { at: [0], value: [NO_ANSWER] } });
    }
    const row = rows[i];
    const column = actions.column[k];
    if (column === row.made.length) {
      row.made.push(action);
      row.read.push(Infinity);
      row.answer.push(NO_ANSWER);
    }
    if (actions.answer[k] !== unread) {
      row.read[column] = action;
      row.answer[column] = actions.answer[k];
      row.reveals.at.push(action);
      row.reveals.value.push(actions.answer[k]);
    }
    if (actions.ended[k]) {
      row.closed = action;
      row.pruned = move === moves.PRUNE;
    }
  });
  return rows;
}

/** The grid of one controller. `cells` is painted row by row, where something changed; `marks` anew at every frame. */
class Grid {
  constructor(root, page, side, seek) {
    this.page = page;
    this.side = side;
    this.seek = seek;
    this.cells = root.querySelector(".cells");
    this.marks = root.querySelector(".marks");
    this.tip = root.querySelector(".tip");
    this.root = root;
    this.frame = -1;
    this.revealed = false;
    this.pointed = null; // the cell under the pointer, or under the keyboard's cursor
    this.trail = 0;
    this.listen();
  }

  /**
   * Fit into `width` CSS pixels; `tall` bounds the height of the rows of the largest grid. Beside another, a grid is as
   * high as the largest, so that equal branches stand side by side.
   */
  resize(width, tall, beside) {
    const ratio = window.devicePixelRatio || 1;
    const { rows, columns } = this.page;
    this.rowCount = beside ? rows : this.side.rows.length;
    this.ratio = ratio;
    this.width = Math.floor(width * ratio);
    this.left = Math.round(42 * ratio);
    this.top = Math.round(2 * ratio);
    const room = this.width - this.left;
    this.cw = Math.min(room / (columns + 2.5), 38 * ratio); // not whole: `edgeOf` rounds
    const high = clamp(Math.floor((tall * ratio) / rows), Math.round(4 * ratio), Math.round(24 * ratio));
    this.ch = Math.max(Math.min(high, Math.round(this.cw * 1.35)), Math.round(4 * ratio));
    this.gap = Math.max(1, Math.round((Math.min(this.cw, this.ch) >= 14 * ratio ? 2 : 1) * ratio * 0.9));
    this.gapAcross = this.cw < 6 * ratio ? 0 : this.gap; // thin cells of one answer run together
    this.bottom = this.top + this.rowCount * this.ch;
    this.right = Math.min(this.width, this.left + Math.ceil((columns + 2.5) * this.cw));
    this.height = this.bottom + Math.round(19 * ratio);
    for (const canvas of [this.cells, this.marks]) {
      canvas.width = this.width;
      canvas.height = this.height;
      canvas.style.width = `${this.width / ratio}px`;
      canvas.style.height = `${this.height / ratio}px`;
    }
    this.root.style.height = `${this.height / ratio}px`;
    this.pen = this.cells.getContext("2d");
    this.marker = this.marks.getContext("2d");
    const wanted = [1, 2, 4, 5, 10, 20, 40, 50, 100, 200, 500, 1000, 2000, 5000];
    this.tick = wanted.find((step) => step * this.cw >= 62 * ratio) || columns;
  }

  /** Take the colours of the theme; after `resize`. */
  colour(colours) {
    this.colours = colours;
    this.font = `${Math.round(Math.min(this.ch * 0.68, 11.5 * this.ratio))}px ${colours.sans}`;
    this.pen.font = this.font;
    this.writes = this.ch >= 12 * this.ratio && this.cw >= 20 * this.ratio;
    const fits = (text) => this.pen.measureText(text).width <= this.cw - this.gap - 3 * this.ratio;
    this.labels = this.page.answers.map((answer) => (this.writes && fits(answer.text) ? answer.text : ""));
    this.outlined = colours.outline > 0 && Math.min(this.cw, this.ch) >= 6 * this.ratio; // light colours on white
    const deeper = this.outlined ? 0 : colours.outline / 2;
    const plain = ["ground", "faint", "ghost", "edge", "dim", "ink", "accent", "glow"];
    this.ink = Object.fromEntries(plain.map((name) => [name, css(colours[name])])); // as strings
    this.fills = colours.answers.map((answer) => css(mixed(answer, [0, 0, 0], deeper)));
    this.rims = colours.answers.map((answer) => css(mixed(answer, [0, 0, 0], colours.outline)));
    this.faded = colours.answers.map((answer) => css(mixed(colours.ground, answer, 0.4)));
    this.inks = colours.answers.map((answer) => (isLight(answer) ? "#11141b" : "#ffffff"));
  }

  /** Paint everything again. */
  repaint() {
    const { pen, ink, colours, ratio } = this;
    pen.fillStyle = ink.ground;
    pen.fillRect(0, 0, this.width, this.height);
    pen.font = `${Math.round(10.5 * ratio)}px ${colours.sans}`;
    pen.textBaseline = "middle";
    pen.fillStyle = ink.dim;
    pen.textAlign = "right";
    const every = [1, 2, 4, 8, 16, 32, 64, 128].find((step) => step * this.ch >= 13 * ratio * (step > 1 ? 1.4 : 1)) || 256;
    for (let i = 0; i < this.rowCount; i += every) {
      pen.fillText(String(i), this.left - 19 * ratio, this.top + (i + 0.5) * this.ch);
    }
    pen.textAlign = "center";
    const title = "tokens deep";
    const free = this.right - pen.measureText(title).width - 30 * ratio;
    for (let column = 0; column <= this.page.columns; column += this.tick) {
      const x = this.edgeOf(column);
      const tokens = column * this.page.delta;
      const text = tokens >= 10000 || (tokens >= 1000 && tokens % 1000 === 0) ? `${count(tokens / 1000)}k` : count(tokens);
      if (x < free) pen.fillText(text, x, this.bottom + 10 * ratio);
    }
    pen.textAlign = "right";
    pen.fillText(title, this.right, this.bottom + 10 * ratio);
    pen.font = this.font;
    const frame = Math.max(this.frame, 0);
    for (let i = 0; i < this.rowCount; i++) this.paintRow(i, frame);
    this.mark();
  }

  /** Show the episode after `frame` actions. `trail`: how many of the last actions to light up. */
  show(frame, revealed, trail = 0) {
    const before = this.frame;
    this.frame = frame;
    this.trail = trail;
    if (revealed !== this.revealed || before < 0 || Math.abs(frame - before) > 4 * this.rowCount) {
      this.revealed = revealed;
      for (let i = 0; i < this.rowCount; i++) this.paintRow(i, frame);
    } else {
      const touched = new Set();
      for (let action = Math.min(before, frame) + 1; action <= Math.max(before, frame); action++) {
        touched.add(this.side.actions.branch[action - 1]);
      }
      touched.delete(-1);
      for (const i of touched) this.paintRow(i, frame);
    }
    this.mark();
    if (this.pointed) this.showTip();
  }

  /** For print: the marks onto the cells. Their own canvas stays off paper, where what was cleared comes out white. */
  flatten() {
    this.pen.drawImage(this.marks, 0, 0);
  }

  paintRow(i, frame) {
    const { pen, ink, ch, cw, gap, outlined } = this;
    const row = this.side.rows[i];
    const y = this.top + i * ch;
    const h = ch - gap;
    pen.fillStyle = ink.ground;
    pen.fillRect(this.left, y, this.right - this.left, ch);
    pen.fillStyle = ink.faint;
    for (let column = 0; column <= this.page.columns; column += this.tick) pen.fillRect(this.edgeOf(column) - gap, y, 1, ch);
    if (!row) return;

    const closed = row.closed <= frame;
    const pruned = closed && row.pruned;
    const fills = pruned ? this.faded : this.fills;
    const thin = Math.max(1, Math.round(h / 7));
    const line = Math.max(1, Math.round(this.ratio * 0.8));
    const shown = lastAtMost(row.made, frame) + 1;
    for (let column = 0; column < shown; column++) {
      const x = this.edgeOf(column);
      const w = this.edgeOf(column + 1) - x - this.gapAcross;
      if (row.read[column] > frame) {
        pen.fillStyle = ink.edge;
        pen.fillRect(x, y + ((h - thin) >> 1), w + this.gapAcross, thin);
        continue;
      }
      const answer = row.answer[column];
      if (answer === NO_ANSWER) {
        pen.fillStyle = pruned ? ink.edge : ink.dim;
        pen.fillRect(x, y, w, h);
        pen.fillStyle = ink.ground;
        pen.fillRect(x + line, y + line, w - 2 * line, h - 2 * line);
        continue;
      }
      if (outlined && !pruned) {
        pen.fillStyle = this.rims[answer];
        pen.fillRect(x, y, w, h);
        pen.fillStyle = fills[answer];
        pen.fillRect(x + line, y + line, w - 2 * line, h - 2 * line);
      } else {
        pen.fillStyle = fills[answer];
        pen.fillRect(x, y, w, h);
      }
      if (this.writes && (column === 0 || row.answer[column - 1] !== answer || row.read[column - 1] > frame)) {
        pen.fillStyle = pruned ? ink.dim : this.inks[answer];
        pen.textAlign = "center";
        pen.fillText(this.labels[answer], x + w / 2, y + h / 2 + this.ratio * 0.5);
      }
    }

    const x = this.edgeOf(shown);
    if (!closed) {
      if (shown < row.made.length) {
        pen.fillStyle = ink.ghost;
        pen.fillRect(x, y, this.edgeOf(row.made.length) - x - gap, h);
      }
    } else if (pruned) {
      pen.strokeStyle = ink.dim;
      pen.lineWidth = Math.max(this.ratio, h / 8);
      pen.beginPath();
      pen.moveTo(x + h * 0.1, y + h);
      pen.lineTo(x + h * 0.55, y);
      pen.stroke();
    } else {
      pen.fillStyle = ink.ink;
      pen.fillRect(x - this.gapAcross + Math.max(1, gap >> 1), y, clamp(Math.round(cw / 4), 2, 5 * this.ratio), h);
    }
    const held = this.latest(i, frame);
    if (this.revealed && (held !== NO_ANSWER || (closed && !pruned))) {
      this.paintVerdict(x + Math.max(cw * 0.5, 7 * this.ratio), y, h, held, pruned);
    }
  }

  /** A tick or a cross behind a branch's last cell: is the answer it holds right? */
  paintVerdict(x, y, h, answer, pruned) {
    const { pen, colours } = this;
    const right = answer >= 0 && this.page.answers[answer].right;
    const size = clamp(h, 5.5 * this.ratio, 13 * this.ratio);
    const middle = y + h / 2;
    pen.strokeStyle = css(mixed(colours.ground, right ? colours.good : colours.bad, pruned ? 0.5 : 1));
    pen.lineWidth = Math.max(1.2 * this.ratio, size / 6.5);
    pen.beginPath();
    if (right) {
      pen.moveTo(x, middle + size * 0.05);
      pen.lineTo(x + size * 0.28, middle + size * 0.34);
      pen.lineTo(x + size * 0.8, middle - size * 0.36);
    } else {
      pen.moveTo(x + size * 0.1, middle - size * 0.3);
      pen.lineTo(x + size * 0.7, middle + size * 0.3);
      pen.moveTo(x + size * 0.7, middle - size * 0.3);
      pen.lineTo(x + size * 0.1, middle + size * 0.3);
    }
    pen.stroke();
  }

  /** Where a column begins, in device pixels. */
  edgeOf(column) {
    return this.left + Math.round(column * this.cw);
  }

  /** The answer branch i read last, -1 for none. */
  latest(i, frame) {
    return stepped(this.side.rows[i].reveals, frame);
  }

  /** The marks: who is with the leader, the branch and the cell of the last actions, the cell pointed at. */
  mark() {
    const { marker, ink, ch, gap, ratio, side } = this;
    const frame = Math.max(this.frame, 0);
    marker.clearRect(0, 0, this.width, this.height);
    const leader = stepped(side.frames.leader, frame);
    if (leader !== NO_ANSWER) {
      marker.fillStyle = this.rims[leader];
      for (let i = 0; i < side.rows.length; i++) {
        const row = side.rows[i];
        if (row.made[0] <= frame && !(row.pruned && row.closed <= frame) && this.latest(i, frame) === leader) {
          marker.fillRect(this.left - 7 * ratio, this.top + i * ch, 3 * ratio, ch - gap);
        }
      }
    }
    const { branch, column } = side.actions;
    for (let age = this.trail - 1; age >= 1; age--) {
      const k = frame - 1 - age;
      if (k >= 0 && column[k] >= 0) {
        marker.fillStyle = ink.glow;
        marker.globalAlpha = 0.75 * (1 - age / this.trail);
        const x = this.edgeOf(column[k]);
        marker.fillRect(x, this.top + branch[k] * ch, this.edgeOf(column[k] + 1) - x - this.gapAcross, ch - gap);
      }
    }
    marker.globalAlpha = 1;
    const i = frame > 0 ? branch[frame - 1] : -1;
    if (i >= 0) {
      const y = this.top + i * ch;
      marker.fillStyle = ink.ink;
      marker.beginPath();
      const tip = this.left - 9 * ratio;
      const half = Math.min(ch * 0.45, 4.5 * ratio);
      const middle = y + (ch - gap) / 2;
      marker.moveTo(tip, middle);
      marker.lineTo(tip - half * 1.3, middle - half);
      marker.lineTo(tip - half * 1.3, middle + half);
      marker.fill();
      if (column[frame - 1] >= 0) this.ring(i, column[frame - 1], ink.ink, 1.6 * ratio);
    }
    if (this.pointed) this.ring(this.pointed.i, this.pointed.column, ink.accent, 2 * ratio);
  }

  ring(i, column, colour, line) {
    const { marker, ch, gap } = this;
    const x = this.edgeOf(column);
    const w = this.edgeOf(column + 1) - x - this.gapAcross;
    marker.strokeStyle = colour;
    marker.lineWidth = line;
    const out = line / 2;
    marker.strokeRect(x - out, this.top + i * ch - out, w + 2 * out, ch - gap + 2 * out);
  }

  // --- pointing at a cell -------------------------------------------------------------------------

  listen() {
    const { marks } = this;
    marks.addEventListener("pointermove", (event) => this.point(this.cellAt(event)));
    marks.addEventListener("pointerdown", (event) => this.point(this.cellAt(event)));
    marks.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && this.point(null));
    marks.addEventListener("blur", () => this.point(null));
    marks.addEventListener("click", (event) => {
      this.point(this.cellAt(event));
      if (event.pointerType !== "touch") this.jump(); // a finger that taps wants to read
    });
    marks.addEventListener("keydown", (event) => {
      const steps = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
      if (event.key === "Enter") this.jump();
      else if (event.key === "Escape") this.point(null);
      else if (steps[event.key]) this.moveCursor(...steps[event.key]);
      else return;
      event.preventDefault();
      event.stopPropagation();
    });
  }

  cellAt(event) {
    const box = this.marks.getBoundingClientRect();
    const scale = this.width / box.width;
    const i = Math.floor(((event.clientY - box.top) * scale - this.top) / this.ch);
    const column = Math.floor(((event.clientX - box.left) * scale - this.left) / this.cw);
    const row = this.side.rows[i];
    return row && column >= 0 && column < row.made.length ? { i, column } : null;
  }

  moveCursor(down, right) {
    const from = this.pointed || { i: 0, column: 0 };
    const moved = this.pointed ? { i: from.i + down, column: from.column + right } : from;
    const i = clamp(moved.i, 0, this.side.rows.length - 1);
    this.point({ i, column: clamp(moved.column, 0, this.side.rows[i].made.length - 1) });
    announce(this.tip.textContent);
  }

  /** Go to the moment at which the cell pointed at was read, or generated if it never was. */
  jump() {
    if (!this.pointed) return;
    const { i, column } = this.pointed;
    const row = this.side.rows[i];
    this.seek(Number.isFinite(row.read[column]) ? row.read[column] : row.made[column]);
  }

  point(cell) {
    const same = cell && this.pointed && cell.i === this.pointed.i && cell.column === this.pointed.column;
    if (same || (!cell && !this.pointed)) return;
    this.pointed = cell;
    this.marks.style.cursor = cell ? "pointer" : "";
    this.tip.hidden = !cell;
    if (cell) this.showTip();
    this.mark();
  }

  showTip() {
    const { i, column } = this.pointed;
    const { page, side, frame, tip } = this;
    const { actions } = side;
    const row = side.rows[i];
    const made = row.made[column];
    const read = row.read[column];
    const last = read <= frame ? read : made;
    const lines = [document.createElement("p"), document.createElement("p"), document.createElement("p")];
    const strong = document.createElement("strong");
    if (read <= frame && row.answer[column] !== NO_ANSWER) {
      lines[0].append(swatch(row.answer[column]));
      strong.textContent = page.answers[row.answer[column]].text;
    } else {
      strong.textContent = made > frame ? "not generated yet" : read > frame ? "not read" : "no answer";
    }
    lines[0].append(strong);
    const final = read === row.closed && !row.pruned;
    const where = final ? "its end" : `${count(column * page.delta)}\u2013${count((column + 1) * page.delta)} tokens`;
    lines[1].textContent = `branch ${i} \u00b7 interval ${column + 1} \u00b7 ${where}`;
    if (made > frame) lines[2].textContent = `generated by action ${count(made)}`;
    else {
      const how = read > frame ? "generated" : final ? "ended" : "read";
      lines[2].textContent = `${how} by action ${count(last)} \u00b7 branch at ${count(actions.spent[last - 1])} tokens`;
    }
    if (row.pruned && row.closed <= frame) lines[2].textContent += ` \u00b7 pruned by action ${count(row.closed)}`;
    tip.replaceChildren(...lines);
    const box = this.marks.getBoundingClientRect();
    const scale = box.width / this.width;
    const x = (this.left + (column + 0.5) * this.cw) * scale;
    const y = (this.top + i * this.ch) * scale;
    tip.style.transform = "none";
    const w = tip.offsetWidth;
    const h = tip.offsetHeight;
    const below = box.top + y - h - 10 < 0;
    const low = 6 - box.left; // stay inside the window
    const high = document.documentElement.clientWidth - box.left - w - 6;
    tip.style.transform = `translate(${clamp(x - w / 2, low, Math.max(low, high))}px, ${below ? y + this.ch * scale + 10 : y - h - 10}px)`;
  }
}
