// The host's page: the list from the API, then the stream from the cursor that the
// list is true at. EventSource cannot send a Bearer token, so the stream is read
// with fetch. Everything that is shown goes in by textContent.
"use strict";

const $ = (id) => document.getElementById(id);
const shown = new Map(); // notification id -> notification
const maxLive = 50;
let session = null; // {host, token, cursor, abort}

const later = (ms, signal) => new Promise((done) => {
  const t = setTimeout(done, ms);
  signal.addEventListener("abort", () => { clearTimeout(t); done(); }, { once: true });
});

function setState(state, text) {
  $("state").dataset.state = state;
  $("state").textContent = text;
}

function showError(text) {
  $("error").textContent = text;
  $("error").hidden = !text;
}

const path = (s, rest) => "/api/v1/hosts/" + encodeURIComponent(s.host) + rest;

async function call(s, method, rest) {
  const r = await fetch(path(s, rest), { method, headers: { Authorization: "Bearer " + s.token }, signal: s.abort.signal });
  const body = await r.json();
  if (!r.ok) throw Object.assign(new Error(body.detail || r.statusText), { status: r.status });
  return body.data;
}

async function load(s) {
  const data = await call(s, "GET", "/notifications?limit=100");
  shown.clear();
  for (const n of data.notifications) shown.set(n.id, n);
  setUnread(data.unread_count);
  s.cursor = data.stream_cursor;
  render();
}

async function count(s) {
  setUnread((await call(s, "GET", "/notifications/count")).unread_count);
}

function setUnread(n) {
  $("unread").textContent = n;
  $("unread").hidden = n === 0;
}

function render() {
  const newest = [...shown.values()].sort((a, b) => (a.created_at < b.created_at ? 1 : a.created_at > b.created_at ? -1 : a.id < b.id ? 1 : -1));
  $("list").replaceChildren(...newest.map(row));
  $("empty").hidden = newest.length > 0;
}

function element(name, className, text) {
  const e = document.createElement(name);
  e.className = className;
  e.textContent = text;
  return e;
}

function row(n) {
  const li = element("li", (n.is_read ? "read" : "unread") + " " + (n.priority === "high" ? "high" : ""), "");
  li.dataset.id = n.id;
  li.append(element("span", "title", n.title), element("span", "message", n.message), element("time", "", new Date(n.created_at).toLocaleString()));
  if (!n.is_read) {
    const b = element("button", "", "Mark read");
    b.addEventListener("click", () => markRead(n, b));
    li.append(b);
  }
  return li;
}

async function markRead(n, button) {
  const s = session;
  button.disabled = true;
  try {
    await call(s, "PUT", "/notifications/" + encodeURIComponent(n.id) + "/read");
    n.is_read = true;
    await count(s);
    render();
  } catch (e) {
    button.disabled = false;
    if (e.name !== "AbortError") showError(e.message);
  }
}

function logLive(kind, text) {
  $("live").prepend(element("li", "", new Date().toLocaleTimeString() + "  " + kind + (text ? ": " + text : "")));
  while ($("live").children.length > maxLive) $("live").lastChild.remove();
}

// take handles one frame. It returns "resync" or "end" when the stream says so.
async function take(s, frame) {
  if (!frame.data) return "";
  const d = JSON.parse(frame.data);
  switch (frame.event || d.type) {
    case "notification":
      shown.set(d.data.id, { is_read: false, ...d.data });
      render();
      logLive("notification", d.data.title);
      await count(s);
      break;
    case "notification_update": {
      const u = d.data || d;
      const n = shown.get(u.notification_id);
      if (u.action === "deleted") shown.delete(u.notification_id);
      else if (n) n.is_read = u.action === "read";
      render();
      await count(s);
      break;
    }
    case "booking_update":
      logLive("booking " + d.data.status, d.data.property_title + ", " + d.data.guest_name);
      break;
    case "system_announcement":
      logLive("announcement", d.message || (d.data && d.data.message) || "");
      break;
    case "resync":
      return "resync";
    case "disconnect":
      if (d.retry_ms > 0) s.retry = d.retry_ms;
      return d.terminal ? "end" : "";
  }
  return "";
}

// frames reads server-sent events as the HTML standard parses them.
async function* frames(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "", frame = { data: [] };
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    rest += value;
    const lines = rest.split(/\r\n|\n|\r(?!$)/);
    rest = lines.pop();
    for (const line of lines) {
      if (line === "") {
        yield { ...frame, data: frame.data.join("\n") };
        frame = { data: [] };
        continue;
      }
      const colon = line.indexOf(":");
      const name = colon < 0 ? line : line.slice(0, colon);
      const v = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
      if (name === "data") frame.data.push(v);
      else if (name === "event" || name === "id" || name === "retry") frame[name] = v;
    }
  }
}

// listen reads one connection to its end.
async function listen(s) {
  const headers = { Authorization: "Bearer " + s.token, Accept: "text/event-stream" };
  if (s.cursor) headers["Last-Event-ID"] = s.cursor;
  const r = await fetch(path(s, "/events"), { headers, signal: s.abort.signal, cache: "no-store" });
  if (!r.ok) {
    const problem = await r.json().catch(() => ({}));
    throw Object.assign(new Error(problem.detail || r.statusText), { status: r.status });
  }
  setState("live", "live");
  for await (const frame of frames(r.body)) {
    s.live = true;
    if (/^\d+$/.test(frame.retry || "")) s.retry = Number(frame.retry);
    const what = await take(s, frame);
    if (what === "resync") await load(s);
    else if (frame.id) s.cursor = frame.id;
    if (what === "end") return false;
  }
  return true;
}

// run keeps a session: list, stream, and again from the last cursor after a break.
async function run(s) {
  let failures = 0, loaded = false;
  while (!s.abort.signal.aborted) {
    setState("connecting", "connecting");
    try {
      s.live = false;
      if (!loaded) await load(s);
      loaded = true;
      showError("");
      if (!(await listen(s))) return setState("ended", "the server ended the stream");
      failures = 0;
    } catch (e) {
      if (s.abort.signal.aborted) return;
      if (e.status >= 400 && e.status < 500 && e.status !== 429) {
        showError(e.message);
        return setState("ended", "not connected");
      }
      failures = s.live ? 0 : failures + 1;
    }
    const wait = Math.min(30000, (s.retry || 1000) * 2 ** Math.min(failures, 5));
    setState("waiting", "reconnecting in " + Math.ceil(wait / 1000) + " s");
    await later(wait, s.abort.signal);
  }
}

function connect() {
  if (session) session.abort.abort();
  session = { host: $("host").value.trim(), token: $("token").value.trim(), cursor: null, abort: new AbortController() };
  showError("");
  run(session);
}

$("who").addEventListener("submit", (e) => { e.preventDefault(); connect(); });

// A link may bring both in its fragment, which no server sees. It is taken out of
// the address bar at once, so that it is neither shown nor kept in the history.
const fragment = new URLSearchParams(location.hash.slice(1));
if (fragment.get("host") && fragment.get("token")) {
  $("host").value = fragment.get("host");
  $("token").value = fragment.get("token");
  history.replaceState(null, "", location.pathname);
  connect();
}
