-- +goose Up

-- A host lists all its bookings, whatever their status, by pages: the newest
-- first, from a cursor on.
create index bookings_by_host on bookings (host_id, created_at desc, id desc);

-- The nights of a home that are held, and nothing of who holds them: for callers
-- who look for other dates. It counts what krib_dates_taken counts, and goes by
-- the same index, that of bookings_no_overlap.
create function krib_taken_dates(property text, first_day date, last_day date) returns table (check_in date, check_out date)
  language sql stable security definer set search_path = pg_catalog, public, pg_temp as $$
  select b.check_in, b.check_out from public.bookings b
  where b.property_id = property and b.status in ('pending', 'confirmed')
    and (b.status = 'confirmed' or b.expires_at is null or b.expires_at > now())
    and daterange(b.check_in, b.check_out) && daterange(first_day, last_day)
  order by b.check_in
$$;
revoke execute on function krib_taken_dates from public;
grant execute on function krib_taken_dates to krib_api;

-- Hosts put homes of their own on the market.
grant insert on properties to krib_api;
create policy properties_create on properties for insert to krib_api with check (host_id = krib_host());

-- +goose Down
drop policy properties_create on properties;
revoke insert on properties from krib_api;
drop function krib_taken_dates;
drop index bookings_by_host;
