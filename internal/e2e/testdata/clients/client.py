"""Reads a stream with httpx-sse, as it is told by its arguments: the URL, a token, and
how many custom events it waits for. It prints the text of each as JSON. The library does
not come back by itself: its documentation says to do this."""
import json
import sys
import time

import httpx
from httpx_sse import connect_sse

url, token, want = sys.argv[1:]
left, last, wait = int(want), "", 1.0
with httpx.Client(timeout=60, trust_env=False) as client:
    while left:
        headers = {"Authorization": "Bearer " + token}
        if last:
            headers["Last-Event-ID"] = last
        try:
            with connect_sse(client, "GET", url, headers=headers) as source:
                source.response.raise_for_status()
                for event in source.iter_sse():
                    last = event.id
                    if event.retry is not None:
                        wait = event.retry / 1000
                    if event.event == "resync":
                        sys.exit("resync: " + event.data)
                    if event.event != "custom":
                        continue
                    print(json.dumps(json.loads(event.data)["text"]), flush=True)
                    left -= 1
                    if not left:
                        break
        except httpx.TransportError:
            pass  # it was cut off
        if left:
            time.sleep(wait)
