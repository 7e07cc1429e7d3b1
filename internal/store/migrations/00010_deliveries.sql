-- +goose Up

-- One row for each (delivery, run) that has been attempted: what the sink of
-- attempts has folded together. It could be derived from the attempts, but a list
-- by state would have to group all of them.
create table webhook_deliveries (
  delivery_id text not null,
  run bigint not null,
  created_at timestamptz not null, -- of the run, as on its attempts
  subscription_id text not null,
  agent_id text not null,
  event_id text not null,
  event_type text not null,
  booking_id text not null,
  trigger text not null, -- of the run; 'retry' until its first attempt is known
  state text not null, -- waiting, or the outcome that ended it
  attempts int not null,
  last_number int not null, -- the attempt that status, error_class and next_attempt_at are of
  status int not null,
  error_class text not null,
  next_attempt_at timestamptz,
  first_attempt_at timestamptz not null,
  last_attempt_at timestamptz not null,
  constraint webhook_deliveries_pk primary key (delivery_id, run, created_at)
) partition by range (created_at);
-- A subscription's log, and the end of a part of it that was looked through.
create index webhook_deliveries_newest on webhook_deliveries (subscription_id, created_at desc, delivery_id desc, run desc);
-- What was not delivered is little, and asked for most. It is counted here too,
-- which the policy on agent_id would otherwise keep from being done in the index.
create index webhook_deliveries_undelivered on webhook_deliveries (subscription_id, state, created_at desc, delivery_id desc, run desc)
  include (agent_id) where state <> 'delivered';
create index webhook_deliveries_by_booking on webhook_deliveries (booking_id, subscription_id, created_at desc, delivery_id desc, run desc)
  where booking_id <> '';
-- What no month's partition takes.
create table webhook_deliveries_default partition of webhook_deliveries default;

-- Makes the partitions of the month of `at` and of the next one, as it is done for
-- attempts.
-- +goose statementbegin
create function krib_delivery_partitions(at timestamptz) returns void
  language plpgsql security definer set search_path = pg_catalog, public, pg_temp as $$
declare m timestamp; name text;
begin
  perform pg_advisory_xact_lock(7011);
  for i in 0..1 loop
    m := date_trunc('month', at at time zone 'utc') + make_interval(months => i);
    name := 'webhook_deliveries_' || to_char(m, 'YYYYMM');
    if to_regclass('public.' || name) is null then
      begin
      execute format('create table public.%I partition of public.webhook_deliveries for values from (%L) to (%L)',
        name, m at time zone 'utc', (m + interval '1 month') at time zone 'utc');
      exception when check_violation then null; -- an odd clock's rows are in the default partition
      end;
    end if;
  end loop;
end $$;
-- +goose statementend
select krib_delivery_partitions(now());

-- Drops the months of deliveries from before the oldest month of attempts: a
-- delivery is kept for as long as its attempts. It says how many months went.
-- +goose statementbegin
create function krib_drop_delivery_partitions() returns integer
  language plpgsql security definer set search_path = pg_catalog, public, pg_temp as $$
declare oldest text; name text; n integer := 0;
begin
  perform pg_advisory_xact_lock(7011);
  select min(right(c.relname, 6)) into oldest from pg_inherits i join pg_class c on c.oid = i.inhrelid
  where i.inhparent = 'public.webhook_attempts'::regclass and c.relname ~ '^webhook_attempts_[0-9]{6}$';
  if oldest is null then
    return 0;
  end if;
  for name in
    select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid
    where i.inhparent = 'public.webhook_deliveries'::regclass and c.relname ~ '^webhook_deliveries_[0-9]{6}$'
      and right(c.relname, 6) < oldest
    order by c.relname
  loop
    execute format('drop table public.%I', name);
    n := n + 1;
  end loop;
  delete from public.webhook_deliveries_default where created_at < to_date(oldest, 'YYYYMM')::timestamp at time zone 'utc';
  return n;
end $$;
-- +goose statementend

-- What happened to a subscription in each slot of time, by when the attempts began.
-- Slots of five minutes become hours when they are a day old. The latencies are a
-- histogram whose buckets the program knows; rows are merged by adding them up.
create table webhook_statistics (
  subscription_id text not null,
  agent_id text not null,
  minutes smallint not null constraint webhook_statistics_minutes check (minutes in (5, 60)),
  slot_at timestamptz not null,
  delivered bigint not null,
  dead bigint not null,
  withheld bigint not null,
  superseded bigint not null,
  attempts bigint not null, -- requests that were made
  failed bigint not null,   -- of those
  latencies bigint[] not null,
  constraint webhook_statistics_pk primary key (subscription_id, minutes, slot_at)
) with (fillfactor = 70); -- a slot's row is written again and again, in its page
-- An agent's sums, and what is old enough to be merged or to go.
create index webhook_statistics_by_agent on webhook_statistics (agent_id, slot_at);
create index webhook_statistics_by_age on webhook_statistics (minutes, slot_at);

-- The log by subscription has a stable order. Statistics are rolled up, so that
-- nothing lists attempts by agent any more.
drop index if exists webhook_attempts_by_subscription, webhook_attempts_by_agent;
create index webhook_attempts_newest on webhook_attempts (subscription_id, started_at desc, delivery_id desc, run desc, number desc);

revoke execute on function krib_delivery_partitions, krib_drop_delivery_partitions from public;
grant execute on function krib_delivery_partitions to krib_sink, krib_jobs;
grant execute on function krib_drop_delivery_partitions to krib_jobs;
grant select on webhook_deliveries, webhook_statistics to krib_api;
grant select, insert, update on webhook_deliveries, webhook_statistics to krib_sink;
grant select, insert, update, delete on webhook_deliveries, webhook_statistics to krib_jobs;

-- +goose statementbegin
do $$
declare t text;
begin
  foreach t in array array['webhook_deliveries', 'webhook_statistics'] loop
    execute format('alter table %I enable row level security', t);
    execute format('alter table %I force row level security', t);
    execute format('create policy %I on %I to krib_jobs using (true) with check (true)', t || '_jobs', t);
    execute format('create policy %I on %I to current_user using (true) with check (true)', t || '_owner', t);
    execute format('create policy %I on %I to krib_sink using (true) with check (true)', t || '_sink', t);
    execute format('create policy %I on %I for select to krib_api using (krib_platform() or agent_id = krib_agent())', t || '_api', t);
  end loop;
end $$;
-- +goose statementend

-- What was attempted before, folded as the sink does it.
insert into webhook_deliveries
select distinct on (delivery_id, run, delivery_created_at) delivery_id, run, delivery_created_at, subscription_id, agent_id, event_id, event_type, booking_id,
  first_value(trigger) over w,
  case when bool_or(outcome = 'delivered') over w then 'delivered' when outcome = 'retry' then 'waiting' else outcome end,
  count(*) over w, number, status, error_class, next_attempt_at, min(started_at) over w, max(started_at) over w
from webhook_attempts
window w as (partition by delivery_id, run, delivery_created_at order by number rows between unbounded preceding and unbounded following)
order by delivery_id, run, delivery_created_at, number desc;
-- Of the time before, the latencies are not made up for.
insert into webhook_statistics
select subscription_id, min(agent_id), 5, date_bin('5 minutes', started_at, '2000-01-01 00:00:00+00'),
  count(*) filter (where outcome = 'delivered'), count(*) filter (where outcome in ('dead', 'gone')), count(*) filter (where outcome = 'withheld'),
  count(*) filter (where outcome = 'superseded'), count(*) filter (where status <> 0 or duration_ms > 0),
  count(*) filter (where (status <> 0 or duration_ms > 0) and outcome <> 'delivered'), '{}'
from webhook_attempts where trigger not in ('test', 'operational') and started_at > now() - interval '35 days'
group by 1, 4;

-- +goose Down
drop index webhook_attempts_newest;
create index webhook_attempts_by_agent on webhook_attempts (agent_id, started_at desc);
drop function krib_drop_delivery_partitions, krib_delivery_partitions;
drop table webhook_statistics, webhook_deliveries;
