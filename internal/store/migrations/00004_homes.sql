-- +goose Up

-- A host lists all its bookings, whatever their status, by pages: the newest
-- first, from a cursor on.
create index bookings_by_host on bookings (host_id, created_at desc, id desc);

-- +goose Down
drop index bookings_by_host;
