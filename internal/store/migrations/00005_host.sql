-- +goose Up

-- What a host lets happen without being asked, and what it wants to hear of.
-- Amounts are in minor units of the currency beside them.
alter table host_settings
  add column auto_approve_bookings boolean not null default false,
  add column auto_approve_amount_limit bigint not null default 100000
    constraint host_settings_limit_range check (auto_approve_amount_limit >= 0),
  add column auto_approve_currency char(3) not null default 'AED'
    constraint host_settings_currency check (auto_approve_currency ~ '^[A-Z]{3}$'),
  add column instant_approval boolean not null default false,
  add column muted_notifications text[] not null default '{}' constraint host_settings_muted
    check (muted_notifications <@ array['new_booking', 'payment_received', 'urgent', 'booking_update']),
  add column updated_at timestamptz not null default now();

-- All that a booking's changes need of another one's settings: the commands copy it
-- into events, and readers of the topic never ask the table.
create or replace view krib_host_switches as
  select host_id, webhook_notifications, auto_approve_bookings, auto_approve_amount_limit, auto_approve_currency,
    instant_approval, muted_notifications
  from host_settings;

-- How many reminders the host has had of a request.
alter table bookings add column reminders smallint not null default 0
  constraint bookings_reminders_range check (reminders between 0 and 2);

-- When a request needs its next step (half of its time, nine tenths, its end), as
-- the time since 2000: to add an interval to a timestamp depends on the time zone
-- and could not be indexed, to subtract one timestamp from another does not. The
-- body is one expression, so that Postgres puts it in the function's place and
-- finds the index by it.
create function krib_request_due(created timestamptz, expires timestamptz, reminders smallint) returns interval
  language sql immutable parallel safe as $$
  select (created - timestamptz '2000-01-01 00:00:00+00')
    + (expires - created) * case reminders when 0 then 0.5::float8 when 1 then 0.9::float8 else 1::float8 end
$$;
create index bookings_due on bookings (krib_request_due(created_at, expires_at, reminders))
  where status = 'pending' and expires_at is not null;

create table payments (
  id text constraint payments_pk primary key,
  booking_id text not null constraint payments_booking_fk references bookings,
  agent_id text not null, -- the booking's, as host_id: for row level security
  host_id text not null,
  provider text not null,
  reference text not null,
  method text not null,
  amount bigint not null constraint payments_amount_positive check (amount > 0),
  currency char(3) not null,
  created_at timestamptz not null,
  -- What a provider took once counts once, whoever tells of it.
  constraint payments_reference_unique unique (provider, reference)
);
create index payments_by_booking on payments (booking_id);

-- Events of Stripe that were acted upon.
create table stripe_events (
  id text constraint stripe_events_pk primary key,
  type text not null,
  booking_id text not null,
  received_at timestamptz not null default now()
);

-- When each job last ran to its end, so that it runs once in the cluster.
create table job_runs (
  job text constraint job_runs_pk primary key,
  ran_at timestamptz not null
);

create index host_notifications_expiring on host_notifications (expires_at) where deleted_at is null and expires_at is not null;

grant select, insert on payments, stripe_events to krib_api;
grant select, insert, update, delete on payments, stripe_events, job_runs to krib_jobs;

-- +goose statementbegin
do $$
declare t text;
begin
  foreach t in array array['payments', 'stripe_events', 'job_runs'] loop
    execute format('alter table %I enable row level security', t);
    execute format('alter table %I force row level security', t);
    execute format('create policy %I on %I to krib_jobs using (true) with check (true)', t || '_jobs', t);
    execute format('create policy %I on %I to current_user using (true) with check (true)', t || '_owner', t);
  end loop;
end $$;
-- +goose statementend

create policy payments_read on payments for select to krib_api
  using (krib_platform() or agent_id = krib_agent() or host_id = krib_host());
create policy payments_write on payments for insert to krib_api
  with check (krib_platform() or agent_id = krib_agent());
-- Stripe speaks for nobody but the platform.
create policy stripe_events_api on stripe_events to krib_api
  using (krib_platform()) with check (krib_platform());

-- +goose Down
drop table payments, stripe_events, job_runs;
drop index host_notifications_expiring, bookings_due;
drop function krib_request_due;
drop view krib_host_switches;
alter table bookings drop column reminders;
alter table host_settings
  drop column auto_approve_bookings, drop column auto_approve_amount_limit, drop column auto_approve_currency,
  drop column instant_approval, drop column muted_notifications, drop column updated_at;
create view krib_host_switches as select host_id, webhook_notifications from host_settings;
grant select on krib_host_switches to krib_api, krib_jobs;
