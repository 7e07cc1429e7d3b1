-- +goose Up

create extension if not exists pg_trgm;

-- What a text is compared and indexed as, in whatever locale: without case, and each
-- byte beyond ASCII as a word of three digits, since trigrams are made of what the
-- locale calls letters and digits, and the locale C knows no others than ASCII's.
create function krib_folded(t text) returns text language sql immutable strict parallel safe as $$
  select encode(convert_to(lower(t), 'UTF8'), 'escape')
$$;
-- Columns, since Postgres keeps no numbers of how frequent an expression's values are
-- that it would use under row level security. The space is where a word begins.
alter table properties
  add column folded_city text generated always as (lower(city)) stored,
  add column folded_state text generated always as (lower(state)) stored,
  add column folded_type text generated always as (lower(property_type)) stored,
  add column folded_text text generated always as (krib_folded(' ' || title || ' ' || address || ' ' || city)) stored;

-- The homes that everybody may see, for searches. It has no policy, since it shows no
-- more than that of properties shows to every caller; under a policy an index is used
-- only by operators that cannot reveal a row, and like is not such.
create view krib_market as select id, host_id, title, address, city, state, country, latitude, longitude, property_type, bedrooms,
  bathrooms, max_guests, status, currency, price_per_night, cleaning_fee, service_fee_bp, tax_per_night, minimum_nights, maximum_nights,
  available_from, available_to, time_zone, created_at, updated_at, folded_city, folded_state, folded_type, folded_text
  from properties where status = 'active';
grant select on krib_market to krib_api;
grant execute on function krib_folded to krib_api;

-- One index for each filter of a search.
create index properties_by_text on properties using gin (folded_text gin_trgm_ops) where status = 'active';
create index properties_by_place on properties using gist (point(longitude, latitude)) where status = 'active';
create index properties_by_folded_city on properties (folded_city, price_per_night, id) where status = 'active';
create index properties_by_state on properties (folded_state, price_per_night, id) where status = 'active';
create index properties_by_type on properties (folded_type, price_per_night, id) where status = 'active';
create index properties_by_bedrooms on properties (bedrooms) where status = 'active';
create index properties_by_bathrooms on properties (bathrooms) where status = 'active';
create index properties_by_guests on properties (max_guests) where status = 'active';
-- A host lists its homes and its bookings by status, and its bookings by home and by day.
create index properties_by_host_status on properties (host_id, status, created_at desc, id desc);
create index bookings_by_host_status on bookings (host_id, status, created_at desc, id desc);
create index bookings_by_property on bookings (property_id, created_at desc, id desc);
create index bookings_by_host_departure on bookings (host_id, check_out);

-- +goose Down
drop index bookings_by_host_departure, bookings_by_property, bookings_by_host_status, properties_by_host_status, properties_by_guests,
  properties_by_bathrooms, properties_by_bedrooms, properties_by_type, properties_by_state, properties_by_folded_city, properties_by_place,
  properties_by_text;
drop view krib_market;
alter table properties drop column folded_city, drop column folded_state, drop column folded_type, drop column folded_text;
drop function krib_folded;
