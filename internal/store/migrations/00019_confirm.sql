-- +goose Up

-- What a booking needs of its home after that has left the market: a stay is over, and
-- a guest absent, by the days of the home's own time zone.
create or replace view krib_property_names as select id, title, address, city, state, time_zone from properties;

-- Until now every key that could book could confirm too. Keys that are in use go on
-- doing so; new ones ask for it.
update api_keys set scopes = array_append(scopes, 'bookings:confirm')
where 'bookings:write' = any (scopes) and not 'bookings:confirm' = any (scopes)
  and revoked_at is null and (expires_at is null or expires_at > now());

-- +goose Down
update api_keys set scopes = array_remove(scopes, 'bookings:confirm');
drop view krib_property_names;
create view krib_property_names as select id, title, address, city, state from properties;
grant select on krib_property_names to krib_api, krib_jobs;
