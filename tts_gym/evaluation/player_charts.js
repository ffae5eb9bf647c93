/* What is drawn along the clock: votes, confidence, and the ribbons of the timeline. */

/** For each of `columns` pixel columns the frame shown there; -1 beyond the end. `values`: the clock at each frame. */
function framesByColumn(values, most, columns) {
  const frames = new Int32Array(columns);
  for (let x = 0; x < columns; x++) {
    const value = (x / Math.max(columns - 1, 1)) * most;
    frames[x] = value > values[values.length - 1] ? -1 : lastAtMost(values, value);
  }
  return frames;
}

/** A canvas of `width` x `height` CSS pixels, its pen in device pixels. */
function sized(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.max(1, Math.round(width * ratio));
  canvas.height = Math.max(1, Math.round(height * ratio));
  return canvas.getContext("2d");
}

/** A strip along the clock: painted once as a whole, shown up to now. */
class Strip {
  constructor(canvas, paint) {
    this.canvas = canvas;
    this.paint = paint;
    this.whole = document.createElement("canvas");
    this.share = 0;
  }

  /** Paint the whole run. `values`: the clock at each frame, which ends at `most`. */
  rebuild(values, most, colours) {
    this.colours = colours;
    const { clientWidth, clientHeight } = this.canvas;
    this.pen = sized(this.canvas, clientWidth, clientHeight);
    const pen = sized(this.whole, clientWidth, clientHeight);
    this.paint(pen, this.whole.width, this.whole.height, framesByColumn(values, most, this.whole.width), colours);
    this.show(this.share);
  }

  /** Show the run up to `share` of the clock. */
  show(share) {
    this.share = share;
    const { pen, whole, colours } = this;
    if (!pen) return;
    const { width, height } = whole;
    const ratio = window.devicePixelRatio || 1;
    const now = Math.round(share * (width - 1)) + 1;
    pen.fillStyle = css(colours.ghost);
    pen.fillRect(0, 0, width, height);
    pen.drawImage(whole, 0, 0, now, height, 0, 0, now, height);
    pen.fillStyle = css(colours.ink);
    pen.fillRect(clamp(now - ratio, 0, width - ratio), 0, Math.max(1, Math.round(ratio)), height);
  }
}

/** Stacked votes, an area per bar and one for all other answers. */
function votesPainter(page, side) {
  const most = Math.max(...page.sides.map((other) => Math.max(...other.frames.total.value)), 1);
  return (pen, width, height, frames, colours) => {
    const fills = [...page.bars.map((number) => css(colours.answers[number])), css(colours.edge)];
    pen.fillStyle = css(colours.sunken);
    pen.fillRect(0, 0, width, height);
    for (let x = 0; x < width && frames[x] >= 0; x++) {
      let floor = height;
      side.frames.votes.forEach((steps, bar) => {
        const top = floor - (stepped(steps, frames[x]) / most) * height;
        pen.fillStyle = fills[bar];
        if (top < floor) pen.fillRect(x, top, 1, floor - top);
        floor = top;
      });
    }
  };
}

/** Confidence, in the colour of the leader it is about. */
function confidencePainter(page, side) {
  return (pen, width, height, frames, colours) => {
    const line = Math.max(1, Math.round(1.5 * (window.devicePixelRatio || 1)));
    pen.fillStyle = css(colours.sunken);
    pen.fillRect(0, 0, width, height);
    for (let x = 0; x < width && frames[x] >= 0; x++) {
      const leader = stepped(side.frames.leader, frames[x]);
      if (leader === NO_ANSWER) continue;
      const top = (height - line) * (1 - stepped(side.frames.confidence, frames[x]));
      const colour = colours.answers[leader];
      pen.fillStyle = css(mixed(colours.sunken, colour, 0.45));
      pen.fillRect(x, top, 1, height - top);
      pen.fillStyle = css(mixed(colour, [0, 0, 0], colours.outline));
      pen.fillRect(x, top, 1, line);
    }
    pen.fillStyle = css(mixed(colours.sunken, colours.dim, 0.35));
    pen.fillRect(0, Math.round(height / 2), width, 1);
  };
}

/** The timeline: a ribbon per controller in the colour of its leader, as long as it runs; below, the clock. */
class Timeline {
  constructor(canvas, page) {
    this.canvas = canvas;
    this.page = page;
    this.share = 0;
    this.inset = 8; // half of the slider's thumb
    this.rise = 13;
    this.pitch = 17;
  }

  rebuild(clock, colours) {
    this.clock = clock;
    this.colours = colours;
    const sides = this.page.sides;
    const ribbons = sides.length * this.pitch;
    this.canvas.style.height = `${ribbons + 18}px`;
    this.pen = sized(this.canvas, this.canvas.clientWidth, ribbons + 18);
    const ratio = window.devicePixelRatio || 1;
    const inner = this.canvas.width - 2 * this.inset * ratio;
    this.past = document.createElement("canvas");
    this.future = document.createElement("canvas");
    for (const canvas of [this.past, this.future]) {
      canvas.width = this.canvas.width;
      canvas.height = this.canvas.height;
    }
    const past = this.past.getContext("2d");
    const future = this.future.getContext("2d");
    sides.forEach((side, k) => {
      const frames = framesByColumn(clock.values[k], clock.most, Math.round(inner));
      const y = Math.round(k * this.pitch * ratio);
      const h = Math.round(this.rise * ratio);
      frames.forEach((frame, x) => {
        if (frame < 0) return;
        const at = Math.round(this.inset * ratio) + x;
        const leader = stepped(side.frames.leader, frame);
        past.fillStyle = leader === NO_ANSWER ? css(colours.edge) : css(colours.answers[leader]);
        past.fillRect(at, y, 1, h);
        future.fillStyle = css(colours.ribbon);
        future.fillRect(at, y, 1, h);
      });
      const end = frames.indexOf(-1);
      const stop = Math.round(this.inset * ratio) + (end < 0 ? frames.length : end);
      for (const pen of [past, future]) {
        pen.fillStyle = css(colours.ink);
        pen.fillRect(stop - Math.round(2 * ratio), y, Math.round(2 * ratio), h);
      }
    });
    for (const pen of [past, future]) this.paintTicks(pen, ribbons * ratio, inner, ratio);
    this.show(this.share);
  }

  paintTicks(pen, y, inner, ratio) {
    const { clock, colours } = this;
    const room = inner / ratio / 90; // ticks that fit
    const rough = clock.most / Math.max(room, 1);
    const power = 10 ** Math.floor(Math.log10(Math.max(rough, 1)));
    const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough) || rough;
    pen.font = `${Math.round(10.5 * ratio)}px ${colours.sans}`;
    pen.fillStyle = css(colours.dim);
    pen.textBaseline = "middle";
    const middle = y + 9 * ratio;
    for (let value = 0; value <= clock.most; value += step) {
      const x = this.inset * ratio + (value / clock.most) * inner;
      pen.textAlign = value === 0 ? "left" : x > inner - 14 * ratio ? "right" : "center";
      pen.fillText(clock.label(value), x, middle);
    }
  }

  /** Show the playhead at `share` of the clock. */
  show(share) {
    this.share = share;
    const { pen, past, future, colours } = this;
    if (!pen) return;
    const ratio = window.devicePixelRatio || 1;
    const { width, height } = this.canvas;
    const x = this.inset * ratio + share * (width - 2 * this.inset * ratio);
    const now = clamp(Math.round(x), 1, width - 1);
    pen.clearRect(0, 0, width, height);
    pen.drawImage(past, 0, 0, now, height, 0, 0, now, height);
    pen.drawImage(future, now, 0, width - now, height, now, 0, width - now, height);
    const bottom = (this.page.sides.length * this.pitch - (this.pitch - this.rise)) * ratio;
    pen.fillStyle = css(colours.panel);
    pen.fillRect(x - 2.5 * ratio, 0, 5 * ratio, bottom);
    pen.fillStyle = css(colours.ink);
    pen.fillRect(x - 1.5 * ratio, 0, 3 * ratio, bottom);
    pen.beginPath();
    pen.arc(x, bottom, 6 * ratio, 0, 7);
    pen.fill();
    pen.fillStyle = css(colours.panel);
    pen.beginPath();
    pen.arc(x, bottom, 2.5 * ratio, 0, 7);
    pen.fill();
  }
}
