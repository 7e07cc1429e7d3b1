# call is curl with the agent's key, and as_host with the host's token. They print the
# answer, and where it is a refusal they print it as an error and fail.
call() { krib_curl "$KEY" "$@"; }
as_host() { krib_curl "$HOST_TOKEN" "$@"; }
krib_curl() {
  krib_token=$1; shift
  krib_answer=$(printf 'Authorization: Bearer %s\n' "$krib_token" |
    curl -sS --fail-with-body -H @- -H 'Content-Type: application/json' "$@") || { printf '%s\n' "$krib_answer" >&2; return 1; }
  printf '%s\n' "$krib_answer"
}

# member prints the first member of that name in the JSON that it reads.
member() {
  krib_found=$(grep -o "\"$1\": *\"[^\"]*\"" | head -n 1 | cut -d'"' -f4) || krib_found=
  [ -n "$krib_found" ] || { echo "there is no $1 in the answer" >&2; return 1; }
  printf '%s\n' "$krib_found"
}

# day prints the date in so many days, and ago the time so many hours ago; GNU's date
# and that of macOS and BSD want it said differently.
day() { date -d "+$1 days" +%F 2>/dev/null || date -v "+$1d" +%F; }
ago() { date -u -d "-$1 hours" +%FT%TZ 2>/dev/null || date -u -v "-$1H" +%FT%TZ; }

# free_nights sets IN and OUT to the first two nights that nobody has.
free_nights() {
  krib_day=30
  while [ "$krib_day" -lt 400 ]; do
    IN=$(day "$krib_day")
    OUT=$(day "$((krib_day + 2))")
    krib_nights=$(call "$API/api/v1/properties/$PROPERTY/availability?check_in=$IN&check_out=$OUT&guests=2") || return 1
    case $krib_nights in *'"is_available":true'*) echo "free: $IN to $OUT"; return 0 ;; esac
    krib_day=$((krib_day + 2))
  done
  echo "no two nights are free in the next 400 days" >&2
  return 1
}

# webhook prints what the sample receiver got of a booking and an event, and waits up
# to ten seconds for it.
webhook() {
  krib_try=0
  while [ "$krib_try" -lt 100 ]; do
    krib_got=$(curl -sS --fail-with-body "$RECEIVER/received?booking_id=$1&event=$2") || return 1
    case $krib_got in *'"webhook_id"'*) printf '%s\n' "$krib_got"; return 0 ;; esac
    krib_try=$((krib_try + 1))
    sleep 0.1
  done
  echo "no $2 of $1 came to $RECEIVER within 10 s: is it subscribed to that?" >&2
  return 1
}
