// A host's live events in a browser: one file, no build, nothing from elsewhere.
// Copy it, or import it from where Krib serves it.
//
//   import { KribEvents } from "./krib-events.js";
//   const events = new KribEvents({
//     host: "host_…",
//     token: async () => "<the host's JWT>",          // or a string
//     load: async () => (await readMyList()).stream_cursor,
//     onEvent: (kind, data, id) => { … },
//     onState: (state, detail) => { … },              // connecting, live, behind, offline, closed
//   });
//   events.start();
//
// What it keeps:
// - load reads the page's state and returns the cursor that it is true at. Each
//   event after that cursor comes once and in order, whichever tab holds the stream,
//   over every reconnect and restart. Where the server cannot say what was missed,
//   load is called again, with the reason.
// - All tabs of one host share one stream: browsers allow six connections to a
//   server, and a seventh tab would never load. The tab that holds a lock reads it
//   and tells the others; when it goes, the next one goes on from its own position.
// - EventSource can send no token. It opens with a ticket that lasts for one use,
//   and comes back by a cookie that only the stream reads.
// - A stream that has been silent for two and a half heartbeats is dead, whatever
//   the socket says: after sleep, or behind a network that has gone.

const kinds = ["notification", "notification_update", "booking_update", "system_announcement", "custom"];
const controls = ["connected", "heartbeat", "resync", "disconnect"];
const remembered = 500; // ids of notifications
const defaultBeat = 5000;
const opening = 30000; // for the browser's own reconnects, before a new ticket is asked for

// later resolves after ms, or at once when the signal or one of the window's events
// says that waiting is over.
const later = (ms, signal, ...events) => new Promise((resolve) => {
  const quit = new AbortController();
  const end = () => { clearTimeout(timer); quit.abort(); resolve(); };
  const timer = setTimeout(end, ms);
  signal.addEventListener("abort", end, { signal: quit.signal });
  for (const e of events) addEventListener(e, end, { signal: quit.signal });
  if (signal.aborted) end();
});

// after says whether an id is behind a position. Ids are epoch-partition-offset; of
// another epoch or partition, nothing is known to be old.
function after(id, position) {
  const [a, b] = [id, position || ""].map((c) => c.split("-"));
  if (a.length !== 3 || b.length !== 3 || a[0] !== b[0] || a[1] !== b[1]) return true;
  return BigInt(a[2]) > BigInt(b[2]);
}

// refusal is an answer that does not heal by asking again.
const refusal = (e) => e.status >= 400 && e.status < 500 && e.status !== 408 && e.status !== 409 && e.status !== 429;

export class KribEvents {
  #o;
  #path;
  #name; // of the lock, the channel and the stored cursor
  #life = null; // from start to close
  #run = null; // the same, less the time in the browser's back-forward cache
  #channel = null;
  #leads = false;
  #state = "closed";
  #position = null; // the id up to which everything was told
  #held = null; // what arrives while load is under way
  #seen = new Set();
  #beat = defaultBeat;
  #heard = 0; // when something came last

  constructor(options) {
    this.#o = { base: "", filters: {}, load: null, onEvent() {}, onState() {}, ...options };
    this.#path = "/api/v1/hosts/" + encodeURIComponent(options.host) + "/events";
    const query = new URLSearchParams();
    for (const name of ["events", "types", "min_priority", "property_id"]) {
      if (this.#o.filters[name]) query.set(name, String(this.#o.filters[name]));
    }
    this.filters = query;
    // Streams of other hosts or filters are other streams.
    this.#name = "krib-events " + this.#o.base + this.#path + "?" + query;
  }

  get state() { return this.#state; }
  get cursor() { return this.#position; }
  get leads() { return this.#leads; }

  start() {
    if (this.#life) return;
    this.#life = new AbortController();
    const { signal } = this.#life;
    // A page in the back-forward cache hears nothing: it lets the stream go, and
    // reads its state anew when it is shown again.
    addEventListener("pagehide", (e) => { if (e.persisted) this.#pause(); }, { signal });
    addEventListener("pageshow", (e) => { if (e.persisted) this.#resume(); }, { signal });
    this.#resume();
  }

  close() { this.#end(null); }

  #resume() {
    if (this.#run) return;
    this.#run = new AbortController();
    const { signal } = this.#run;
    this.#channel = new BroadcastChannel(this.#name);
    this.#channel.onmessage = (e) => this.#hear(e.data);
    this.#set("connecting");
    this.#work(signal).catch((e) => { if (!signal.aborted) this.#end(e); });
  }

  #pause() {
    if (!this.#run) return;
    this.#run.abort();
    this.#channel.close();
    this.#run = this.#channel = this.#held = null;
  }

  #end(error) {
    if (!this.#life) return;
    this.#pause();
    this.#life.abort();
    this.#life = null;
    this.#set("closed", error);
  }

  // The channel is open before the state is read, so nothing falls between the two:
  // what was told before is in the state, what comes after is held.
  async #work(signal) {
    this.#heard = Date.now();
    if (!this.#o.load) this.#position ??= this.#stored();
    await this.#read(signal, "start");
    if (signal.aborted) return;
    this.#channel.postMessage({ ask: true });
    this.#watch(signal);
    if (!navigator.locks) return this.#lead(signal); // only where it is served without TLS: each tab for itself
    await navigator.locks.request(this.#name, { signal }, () => this.#lead(signal));
  }

  // read brings the page's state up to date and then tells what came meanwhile. What
  // is held belongs to this reading: a page that was paused and started again begins
  // another one, and neither takes what is the other's.
  async #read(signal, reason) {
    if (this.#held) return; // one is under way, and holds what comes
    if (!this.#o.load) return;
    const held = this.#held = [];
    try {
      for (let wait = 1000; !signal.aborted; wait = Math.min(wait * 2, 30000)) {
        try {
          const cursor = await this.#o.load(reason);
          if (cursor && !signal.aborted) this.#move(cursor);
          break;
        } catch (e) {
          if (signal.aborted) break;
          if (refusal(e)) throw e;
          this.#set("offline", e);
          await later(wait * (0.5 + Math.random()), signal, "online");
        }
      }
    } finally {
      if (this.#held === held) this.#held = null;
    }
    if (!signal.aborted) held.forEach((m) => this.#hear(m));
  }

  // watch tells a tab that only listens when the one that reads has fallen silent.
  async #watch(signal) {
    while (!signal.aborted) {
      await later(this.#beat, signal, "pageshow", "online");
      if (!this.#leads && Date.now() - this.#heard > opening + this.#beat) this.#set("offline");
    }
  }

  // lead reads the stream for all tabs until the signal ends.
  async #lead(signal) {
    this.#leads = true;
    try {
      for (let failures = 0; !signal.aborted;) {
        let wait = 1000;
        try {
          this.#tell("connecting");
          const end = await this.#listen(await this.#ticket(signal), signal);
          if (end.terminal) return this.#end(new Error(end.reason));
          failures = end.heard ? 0 : failures + 1;
          wait = end.retry ?? wait;
        } catch (e) {
          if (signal.aborted) return;
          if (refusal(e)) throw e;
          failures++;
        }
        if (signal.aborted) return;
        this.#tell("offline");
        await later(Math.min(30000, wait * 2 ** Math.min(failures, 5)) * (0.75 + Math.random() / 2), signal, "online", "pageshow");
      }
    } finally {
      this.#leads = false;
    }
  }

  // ticket asks for one and returns the URL that it opens, from this tab's position.
  async #ticket(signal) {
    const token = typeof this.#o.token === "function" ? await this.#o.token() : this.#o.token;
    const r = await fetch(this.#o.base + this.#path + "/ticket", {
      method: "POST", headers: { Authorization: "Bearer " + token }, signal, cache: "no-store",
    });
    const body = await r.json().catch(() => ({}));
    if (!r.ok) throw Object.assign(new Error(body.detail || r.statusText), { status: r.status });
    const query = new URLSearchParams(this.filters);
    query.set("ticket", body.data.ticket);
    if (this.#position) query.set("last_event_id", this.#position);
    return this.#o.base + this.#path + "?" + query;
  }

  // listen reads one EventSource, over the browser's own reconnects, until it is
  // dead: closed by an answer that was not 200, silent, or told to come anew.
  #listen(url, signal) {
    return new Promise((resolve) => {
      const source = new EventSource(url, { withCredentials: true });
      const quit = new AbortController();
      const end = { heard: false };
      let last = Date.now();
      const stop = () => { source.close(); clearInterval(timer); quit.abort(); resolve(end); };
      const check = () => {
        const limit = source.readyState === EventSource.OPEN ? 2.5 * this.#beat : opening;
        if (Date.now() - last > limit) stop();
      };
      const timer = setInterval(check, 1000);
      signal.addEventListener("abort", stop, { signal: quit.signal });
      // Timers stand still while a page sleeps; what wakes it looks at once.
      document.addEventListener("visibilitychange", check, { signal: quit.signal });
      for (const e of ["pageshow", "online"]) addEventListener(e, check, { signal: quit.signal });
      source.onopen = () => { last = Date.now(); };
      source.onerror = () => {
        if (source.readyState === EventSource.CLOSED) return stop();
        last = Date.now();
        this.#tell("connecting");
      };
      const take = (e) => {
        last = Date.now();
        end.heard = true;
        const message = { kind: e.type, id: e.lastEventId, data: JSON.parse(e.data) };
        this.#channel?.postMessage(message);
        this.#hear(message);
        if (e.type !== "disconnect") return;
        end.retry = message.data.retry_ms;
        end.terminal = message.data.terminal;
        end.reason = message.data.reason;
        if (end.terminal || message.data.code === "token_expired") stop(); // the cookie has ended with the token
      };
      for (const kind of [...controls, ...kinds]) source.addEventListener(kind, take);
    });
  }

  // hear takes a message of the stream or of the tab that reads it.
  #hear(message) {
    this.#heard = Date.now();
    if (message.ask) {
      if (this.#leads) this.#channel.postMessage({ state: this.#state });
      return;
    }
    if (message.state) return this.#set(message.state);
    if (this.#held) return void this.#held.push(message);
    const { kind, id, data } = message;
    switch (kind) {
      case "connected":
        if (data.heartbeat_ms > 0) this.#beat = data.heartbeat_ms;
        if (!this.#position) this.#move(id);
        return this.#set("live");
      case "heartbeat":
        if (after(id, this.#position)) this.#move(id);
        return this.#set(data.behind ? "behind" : "live", data.lag_ms);
      case "resync": {
        this.#move(id);
        if (!this.#o.load) return void this.#o.onState?.(this.#state, { resync: data.reason }); // it must hear of it all the same
        const { signal } = this.#run;
        this.#read(signal, data.reason).catch((e) => { if (!signal.aborted) this.#end(e); });
        return;
      }
      case "disconnect":
        return this.#set("connecting", data.code);
    }
    if (!after(id, this.#position)) return; // the state has it, or another tab was ahead
    this.#move(id);
    if (kind === "notification" && this.#repeats(data.data.id)) return;
    this.#o.onEvent(kind, data, id);
  }

  #repeats(id) {
    if (this.#seen.has(id)) return true;
    this.#seen.add(id);
    if (this.#seen.size > remembered) this.#seen.delete(this.#seen.values().next().value);
    return false;
  }

  #move(id) {
    this.#position = id;
    try { localStorage.setItem(this.#name, id); } catch { /* a browser that keeps nothing */ }
  }

  #stored() {
    try { return localStorage.getItem(this.#name); } catch { return null; }
  }

  #tell(state) {
    this.#channel?.postMessage({ state });
    this.#set(state);
  }

  #set(state, detail) {
    const changed = state !== this.#state;
    this.#state = state;
    if (changed || detail) this.#o.onState(state, detail);
  }
}
