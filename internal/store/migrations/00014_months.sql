-- +goose Up

-- Makes the partitions of the month of `at` and of the next one. Months are counted
-- in UTC, whatever the session's time zone: a month after a timestamptz is one in that
-- zone, and from the first of March in Europe it leads back into March.
-- +goose statementbegin
create or replace function krib_attempt_partitions(at timestamptz) returns void
  language plpgsql security definer set search_path = pg_catalog, public, pg_temp as $$
declare first timestamp; name text;
begin
  perform pg_advisory_xact_lock(7011);
  for i in 0..1 loop
    first := date_trunc('month', at at time zone 'utc') + make_interval(months => i);
    name := 'webhook_attempts_' || to_char(first, 'YYYYMM');
    if to_regclass('public.' || name) is null then
      -- Rows from an odd clock may lie in the default partition already; then this
      -- month's rows stay there too.
      begin
        execute format('create table public.%I partition of public.webhook_attempts for values from (%L) to (%L)',
          name, first at time zone 'utc', (first + interval '1 month') at time zone 'utc');
      exception when check_violation then null;
      end;
    end if;
  end loop;
end $$;
-- +goose statementend

-- +goose Down
-- The function of before made fewer partitions in some time zones, and no other.
