-- +goose Up

-- Roles are the cluster's, not the database's: another database's migration may
-- make or grant the same one at this very moment, which Postgres reports in
-- several ways. So each step is tried again.
-- +goose statementbegin
do $$
declare r text;
begin
  foreach r in array array['krib_api', 'krib_relay', 'krib_sink', 'krib_jobs'] loop
    for try in 1..20 loop
      begin
        if not exists (select from pg_roles where rolname = r) then
          execute format('create role %I nologin', r);
        end if;
        -- A superuser may become anyone. Others need the grant said: from version 16
        -- on, making a role does not by itself allow to become it.
        if not (select rolsuper from pg_roles where rolname = current_user) then
          execute format('grant %I to current_user', r);
        end if;
        exit;
      exception when others then
        if try = 20 then raise; end if;
        perform pg_sleep(0.05 * random());
      end;
    end loop;
  end loop;
end $$;
-- +goose statementend

create extension if not exists btree_gist;

-- What a scoped transaction may see. An unset setting reads as null or as the
-- empty string, after its first use in the session; both mean nobody.
create function krib_agent() returns text language sql stable as $$ select nullif(current_setting('krib.agent_id', true), '') $$;
create function krib_host() returns text language sql stable as $$ select nullif(current_setting('krib.host_id', true), '') $$;
create function krib_platform() returns boolean language sql stable as $$ select coalesce(current_setting('krib.platform', true), '') = 'on' $$;

create table agents (
  id text constraint agents_pk primary key,
  name text not null,
  created_at timestamptz not null default now()
);

create table api_keys (
  id text constraint api_keys_pk primary key,
  agent_id text not null constraint api_keys_agent_fk references agents,
  name text not null,
  key_hash bytea not null constraint api_keys_hash_unique unique constraint api_keys_hash_length check (octet_length(key_hash) = 32),
  key_prefix text not null,
  scopes text[] not null,
  platform boolean not null default false,
  rate_limit_per_minute int not null default 100 constraint api_keys_rate_limit_range check (rate_limit_per_minute >= 0),
  expires_at timestamptz,
  revoked_at timestamptz,
  created_at timestamptz not null default now()
);

-- The API's role cannot read the keys; it can ask about one whose hash it has.
create function krib_api_key(hash bytea)
  returns table (id text, agent_id text, scopes text[], platform boolean, rate_limit_per_minute int)
  language sql stable security definer set search_path = pg_catalog, public, pg_temp as $$
  select k.id, k.agent_id, k.scopes, k.platform, k.rate_limit_per_minute
  from public.api_keys k
  where k.key_hash = hash and k.revoked_at is null and (k.expires_at is null or k.expires_at > now())
$$;

create table hosts (
  id text constraint hosts_pk primary key,
  name text not null,
  created_at timestamptz not null default now()
);

create table host_settings (
  host_id text constraint host_settings_pk primary key constraint host_settings_host_fk references hosts,
  webhook_notifications boolean not null default true
);

-- All that booking needs of another one's settings.
create function krib_host_webhooks(host text) returns boolean
  language sql stable security definer set search_path = pg_catalog, public, pg_temp as $$
  select coalesce((select s.webhook_notifications from public.host_settings s where s.host_id = host), true)
$$;

create table properties (
  id text constraint properties_pk primary key,
  host_id text not null constraint properties_host_fk references hosts,
  title text not null,
  address text not null,
  city text not null,
  state text not null,
  country text not null,
  latitude double precision,
  longitude double precision,
  property_type text not null,
  bedrooms int not null,
  bathrooms int not null,
  max_guests int not null constraint properties_guests_range check (max_guests between 1 and 50),
  status text not null constraint properties_status check (status in ('draft', 'active', 'inactive', 'suspended')),
  currency char(3) not null,
  price_per_night bigint not null constraint properties_price_range check (price_per_night > 0),
  cleaning_fee bigint not null default 7500 constraint properties_cleaning_range check (cleaning_fee >= 0),
  service_fee_bp int not null default 300 constraint properties_service_range check (service_fee_bp between 0 and 10000),
  tax_per_night bigint not null default 1500 constraint properties_tax_range check (tax_per_night >= 0),
  minimum_nights int not null default 1,
  maximum_nights int not null default 365,
  available_from date,
  available_to date,
  time_zone text not null default 'Asia/Dubai',
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint properties_nights check (minimum_nights between 1 and maximum_nights and maximum_nights <= 365)
);
create index properties_by_city on properties (lower(city), price_per_night, id) where status = 'active';
create index properties_by_price on properties (price_per_night, id) where status = 'active';

create table bookings (
  id text constraint bookings_pk primary key,
  version bigint not null constraint bookings_version_positive check (version > 0),
  agent_id text not null,
  host_id text not null,
  property_id text not null constraint bookings_property_fk references properties,
  status text not null constraint bookings_status check (status in ('pending', 'confirmed', 'cancelled', 'completed', 'no_show')),
  check_in date not null,
  check_out date not null,
  guests int not null,
  guest_first_name text not null,
  guest_last_name text not null,
  guest_email text not null,
  guest_phone text not null,
  guest_country_code text not null,
  special_requests text not null,
  total_amount bigint not null constraint bookings_amount_range check (total_amount >= 0),
  currency char(3) not null,
  payment_method text not null,
  payment_status text not null default 'pending',
  created_at timestamptz not null,
  updated_at timestamptz not null,
  expires_at timestamptz,
  confirmed_at timestamptz,
  cancelled_at timestamptz,
  cancellation_reason text not null default '',
  constraint bookings_dates check (check_out > check_in),
  -- Two bookings that hold their dates never overlap, whatever the code does.
  constraint bookings_no_overlap exclude using gist
    (property_id with =, daterange(check_in, check_out) with &&) where (status in ('pending', 'confirmed'))
);
create index bookings_pending_by_host on bookings (host_id, created_at desc, id desc) where status = 'pending';
create index bookings_by_agent on bookings (agent_id, created_at desc, id desc);
create index bookings_by_agent_host on bookings (agent_id, host_id);

-- What a booking shows of its property, also after that has left the market.
create view krib_property_names as select id, title, address, city, state from properties;
grant select on krib_property_names to krib_api, krib_jobs;

-- Whether any booking holds a night; the search asks it about bookings that its
-- caller may not see.
-- Its arguments are not called check_in and check_out: a column of the same name
-- would win over them.
create function krib_dates_taken(property text, arrival date, departure date) returns boolean
  language sql stable security definer set search_path = pg_catalog, public, pg_temp as $$
  select exists (select from public.bookings b
    where b.property_id = property and b.status in ('pending', 'confirmed')
      and (b.status = 'confirmed' or b.expires_at is null or b.expires_at > now())
      and daterange(b.check_in, b.check_out) && daterange(arrival, departure))
$$;

create table outbox (
  id bigint generated always as identity constraint outbox_pk primary key,
  topic text not null,
  key text,
  partition int,
  headers jsonb not null,
  value bytea,
  created_at timestamptz not null default clock_timestamp(),
  constraint outbox_key_or_partition check (key is not null or partition is not null)
);
-- The table is emptied as fast as it fills: dead rows are its normal state.
alter table outbox set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0);

-- Names this outbox in what is published about it, since another database, or
-- this one restored, gives the same ids to other rows.
create table outbox_identity (
  id text constraint outbox_identity_pk primary key default gen_random_uuid()::text,
  one boolean not null default true constraint outbox_identity_one unique constraint outbox_identity_true check (one)
);
insert into outbox_identity default values;

create table outbox_stuck (
  id bigint constraint outbox_stuck_pk primary key,
  topic text not null,
  key text,
  partition int,
  headers jsonb not null,
  value bytea,
  created_at timestamptz not null,
  error text not null,
  stuck_at timestamptz not null default now()
);

create table idempotency_keys (
  caller text not null,
  method text not null,
  path text not null,
  key text not null,
  body_hash bytea not null,
  response bytea,
  created_at timestamptz not null default now(),
  constraint idempotency_keys_pk primary key (caller, method, path, key)
);
create index idempotency_keys_by_age on idempotency_keys (created_at);

create table webhook_subscriptions (
  id text constraint webhook_subscriptions_pk primary key,
  version bigint not null,
  agent_id text not null,
  agent_name text not null,
  webhook_url text not null,
  events text[] not null,
  platform boolean not null,
  is_active boolean not null,
  disabled_reason text not null default '',
  enabled_at timestamptz not null,
  sealed_api_key bytea not null,
  secrets jsonb not null,
  body_hash bytea not null,
  max_failed_attempts int not null default 5,
  created_at timestamptz not null,
  updated_at timestamptz not null,
  constraint webhook_subscriptions_url_unique unique (agent_id, webhook_url)
);
create index webhook_subscriptions_newest on webhook_subscriptions (agent_id, created_at desc, id desc);

-- Health changes with every attempt and the subscription with hardly any: apart,
-- so that a busy endpoint does not rewrite its secrets.
create table webhook_health (
  subscription_id text constraint webhook_health_pk primary key
    constraint webhook_health_subscription_fk references webhook_subscriptions on delete cascade,
  agent_id text not null,
  failed_attempts int not null default 0,
  first_failure_at timestamptz,
  failures_since_success int not null default 0,
  last_successful_call timestamptz
);

create table webhook_attempts (
  delivery_id text not null,
  run bigint not null,
  number int not null,
  event_id text not null,
  event_type text not null,
  subscription_id text not null,
  agent_id text not null,
  booking_id text not null,
  trigger text not null,
  started_at timestamptz not null,
  duration_ms bigint not null,
  outcome text not null,
  final boolean not null,
  status int not null,
  error_class text not null,
  error text not null,
  response_body text not null,
  next_attempt_at timestamptz,
  delivery_created_at timestamptz not null,
  constraint webhook_attempts_pk primary key (delivery_id, run, number, delivery_created_at)
) partition by range (delivery_created_at);
create index webhook_attempts_by_subscription on webhook_attempts (subscription_id, started_at desc);
create index webhook_attempts_by_agent on webhook_attempts (agent_id, started_at desc);
-- What no month's partition takes. It keeps an odd clock from stopping the sink.
create table webhook_attempts_default partition of webhook_attempts default;

-- Makes the partitions of the month of `at` and of the next one.
-- +goose statementbegin
create function krib_attempt_partitions(at timestamptz) returns void
  language plpgsql security definer set search_path = pg_catalog, public, pg_temp as $$
declare m timestamptz; name text;
begin
  perform pg_advisory_xact_lock(7011);
  for i in 0..1 loop
    m := date_trunc('month', at at time zone 'utc') at time zone 'utc' + make_interval(months => i);
    m := date_trunc('month', (m at time zone 'utc')) at time zone 'utc';
    name := 'webhook_attempts_' || to_char(m at time zone 'utc', 'YYYYMM');
    if to_regclass('public.' || name) is null then
      -- Rows from an odd clock may lie in the default partition already; then this
      -- month's rows stay there too.
      begin
      execute format('create table public.%I partition of public.webhook_attempts for values from (%L) to (%L)',
        name, m, ((m at time zone 'utc') + interval '1 month') at time zone 'utc');
      exception when check_violation then null;
      end;
    end if;
  end loop;
end $$;
-- +goose statementend
select krib_attempt_partitions(now());

create table host_notifications (
  id text constraint host_notifications_pk primary key,
  host_id text not null,
  type text not null constraint host_notifications_type
    check (type in ('new_booking', 'payment_received', 'guest_message', 'urgent', 'booking_update')),
  title text not null,
  message text not null,
  booking_id text not null,
  property_id text not null,
  priority text not null constraint host_notifications_priority check (priority in ('high', 'medium', 'low')),
  action_required boolean not null,
  action_url text not null,
  expires_at timestamptz,
  read_at timestamptz,
  deleted_at timestamptz,
  log_offset bigint,
  created_at timestamptz not null,
  updated_at timestamptz not null
);
create index host_notifications_newest on host_notifications (host_id, created_at desc, id desc) where deleted_at is null;
create index host_notifications_unread on host_notifications (host_id, expires_at) where deleted_at is null and read_at is null;
create index host_notifications_deleted on host_notifications (deleted_at) where deleted_at is not null;

create table sink_offsets (
  topic_id text not null,
  partition int not null,
  next_offset bigint not null,
  updated_at timestamptz not null default now(),
  constraint sink_offsets_pk primary key (topic_id, partition)
);

-- Rights. The API's role sees what its scope says and nothing else; the others
-- do one job each.
grant usage on schema public to krib_api, krib_relay, krib_sink, krib_jobs;
grant execute on function krib_agent, krib_host, krib_platform to krib_api;
revoke execute on function krib_api_key, krib_host_webhooks, krib_dates_taken, krib_attempt_partitions from public;
grant execute on function krib_api_key, krib_host_webhooks, krib_dates_taken to krib_api;
grant execute on function krib_attempt_partitions to krib_sink, krib_jobs;
grant execute on function krib_host_webhooks to krib_jobs;

grant select, update on properties to krib_api;
grant select, insert, update on bookings, idempotency_keys, host_notifications to krib_api;
grant delete on idempotency_keys to krib_api;
grant select, insert, update, delete on webhook_subscriptions, webhook_health to krib_api;
grant select on webhook_attempts, sink_offsets to krib_api;
grant select, insert, update on host_settings, hosts to krib_api;
grant insert on outbox to krib_api;

grant select, delete on outbox to krib_relay;
grant select on outbox_identity to krib_relay;
grant insert on outbox_stuck to krib_relay;

grant select, insert, update on host_notifications, sink_offsets, webhook_attempts, webhook_health to krib_sink;
grant select, update on webhook_subscriptions to krib_sink;
grant insert on outbox to krib_sink;

grant select, insert, update, delete on all tables in schema public to krib_jobs;

-- +goose statementbegin
do $$
declare t text;
begin
  foreach t in array array['properties', 'bookings', 'idempotency_keys', 'webhook_subscriptions', 'webhook_health',
                           'webhook_attempts', 'host_notifications', 'host_settings', 'hosts'] loop
    execute format('alter table %I enable row level security', t);
    execute format('alter table %I force row level security', t);
    execute format('create policy %I on %I to krib_jobs using (true) with check (true)', t || '_jobs', t);
    -- The owner runs the functions and the view that look over the fence; where it
    -- is no superuser, it needs to be let through by name.
    execute format('create policy %I on %I to current_user using (true) with check (true)', t || '_owner', t);
  end loop;
  foreach t in array array['webhook_subscriptions', 'webhook_health', 'webhook_attempts', 'host_notifications'] loop
    execute format('create policy %I on %I to krib_sink using (true) with check (true)', t || '_sink', t);
  end loop;
end $$;
-- +goose statementend

create policy properties_read on properties for select to krib_api
  using (status = 'active' or host_id = krib_host() or krib_platform());
create policy properties_write on properties for update to krib_api
  using (host_id = krib_host() or status = 'active') with check (host_id = krib_host());
create policy bookings_api on bookings to krib_api
  using (krib_platform() or agent_id = krib_agent() or host_id = krib_host())
  with check (krib_platform() or agent_id = krib_agent() or host_id = krib_host());
create policy idempotency_keys_api on idempotency_keys to krib_api
  using (caller = 'agent:' || krib_agent() or caller = 'host:' || krib_host())
  with check (caller = 'agent:' || krib_agent() or caller = 'host:' || krib_host());
create policy webhook_subscriptions_api on webhook_subscriptions to krib_api
  using (krib_platform() or agent_id = krib_agent()) with check (krib_platform() or agent_id = krib_agent());
create policy webhook_health_api on webhook_health to krib_api
  using (krib_platform() or agent_id = krib_agent()) with check (krib_platform() or agent_id = krib_agent());
create policy webhook_attempts_api on webhook_attempts for select to krib_api
  using (krib_platform() or agent_id = krib_agent());
create policy host_notifications_host on host_notifications to krib_api
  using (host_id = krib_host()) with check (host_id = krib_host());
-- An agent writes to hosts that it has a booking with, and reads none.
create policy host_notifications_send on host_notifications for insert to krib_api
  with check (krib_platform() or exists (
    select from bookings b where b.host_id = host_notifications.host_id and b.agent_id = krib_agent()));
create policy host_settings_api on host_settings to krib_api
  using (host_id = krib_host()) with check (host_id = krib_host());
create policy hosts_api on hosts to krib_api
  using (id = krib_host()) with check (id = krib_host());

-- +goose Down
-- There is no way back from the first migration but an empty database.
