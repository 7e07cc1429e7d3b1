// The host's page: the list from the API, then the stream from the cursor that the
// list is true at. Everything that is shown goes in by textContent.
import { KribEvents } from "./krib-events.js";

const $ = (id) => document.getElementById(id);
const shown = new Map(); // notification id -> notification
const maxLive = 50;
let session = null; // {host, token, abort, events}

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

// load brings the list up to date and returns the cursor that it is true at.
async function load(s) {
  const data = await call(s, "GET", "/notifications?limit=100");
  shown.clear();
  for (const n of data.notifications) shown.set(n.id, n);
  setUnread(data.unread_count);
  render();
  return data.stream_cursor;
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

// take handles one event.
function take(s, kind, d) {
  switch (kind) {
    case "notification":
      shown.set(d.data.id, { is_read: false, ...d.data });
      render();
      logLive("notification", d.data.title);
      break;
    case "notification_update": {
      if (d.data.action === "read_all") return void load(s).catch(() => {}); // which ones is for the server to say
      const n = shown.get(d.data.notification_id);
      if (d.data.action === "deleted") shown.delete(d.data.notification_id);
      else if (n) n.is_read = d.data.action === "read";
      render();
      break;
    }
    case "booking_update":
      return logLive("booking " + d.data.status, d.data.property_title + ", " + d.data.guest_name);
    case "system_announcement":
      return logLive("announcement", d.message || "");
    case "custom":
      return logLive("custom", d.message || "");
  }
  count(s).catch(() => {}); // the next event counts again
}

const words = { connecting: "connecting", live: "live", behind: "behind", offline: "reconnecting", closed: "not connected" };

function tell(s, state, detail) {
  if (s !== session) return; // another one has taken its place
  const late = state === "behind" && detail > 0 ? " by " + Math.ceil(detail / 1000) + " s" : "";
  setState(state, words[state] + late);
  showError(state === "closed" && detail ? detail.message : "");
}

function connect() {
  if (session) {
    session.events.close();
    session.abort.abort();
  }
  const s = { host: $("host").value.trim(), token: $("token").value.trim(), abort: new AbortController() };
  s.events = new KribEvents({
    host: s.host, token: s.token, load: () => load(s),
    onEvent: (kind, data) => take(s, kind, data), onState: (state, detail) => tell(s, state, detail),
  });
  session = s;
  showError("");
  s.events.start();
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
