-- +goose Up

alter table api_keys
  add column last_used_at timestamptz,
  add constraint api_keys_admin_is_platform check (platform or not 'admin' = any (scopes));
create index api_keys_newest on api_keys (created_at desc, id desc);
create index api_keys_by_agent on api_keys (agent_id, created_at desc, id desc);
create index agents_newest on agents (created_at desc, id desc);

-- Whether the transaction's caller may administer agents and keys.
create function krib_admin() returns boolean language sql stable as $$ select coalesce(current_setting('krib.admin', true), '') = 'on' $$;
grant execute on function krib_admin to krib_api;

-- One write a minute for each key, however many processes ask for it.
create function krib_key_used(key text) returns void
  language sql security definer set search_path = pg_catalog, public, pg_temp as $$
  update public.api_keys k set last_used_at = now()
  where k.id = key and (k.last_used_at is null or k.last_used_at < now() - interval '1 minute')
$$;
revoke execute on function krib_key_used from public;
grant execute on function krib_key_used to krib_api;

-- An administrator's transaction makes and ends keys. It can read no hash, and it
-- cannot change what a key that exists may do.
grant select, insert, update (name) on agents to krib_api;
grant select (id, agent_id, name, key_prefix, scopes, platform, rate_limit_per_minute, expires_at, revoked_at, last_used_at, created_at),
  insert, update (expires_at, revoked_at) on api_keys to krib_api;

-- +goose statementbegin
do $$
declare t text;
begin
  foreach t in array array['agents', 'api_keys'] loop
    execute format('alter table %I enable row level security', t);
    execute format('alter table %I force row level security', t);
    execute format('create policy %I on %I to krib_jobs using (true) with check (true)', t || '_jobs', t);
    execute format('create policy %I on %I to current_user using (true) with check (true)', t || '_owner', t);
    execute format('create policy %I on %I to krib_api using (krib_admin()) with check (krib_admin())', t || '_api', t);
  end loop;
end $$;
-- +goose statementend

-- Booking locks a home, which needs the right to update it, and so the policy of
-- updates shows every active home. A host could make another's home its own, since
-- the row after it is the host's: what a home is, and whose, cannot be changed.
-- +goose statementbegin
do $$
declare columns text;
begin
  select string_agg(quote_ident(attname), ', ') into columns from pg_attribute
  where attrelid = 'properties'::regclass and attnum > 0 and not attisdropped and attname not in ('id', 'host_id', 'created_at');
  revoke update on properties from krib_api;
  execute 'grant update (' || columns || ') on properties to krib_api';
end $$;
-- +goose statementend

-- A booking is made by its agent. A host, whose row it would be too, cannot write
-- one in an agent's name.
create policy bookings_made_by_agents on bookings as restrictive for insert to krib_api
  with check (krib_platform() or agent_id = krib_agent());

-- Before version 15 everybody could make tables here.
revoke create on schema public from public;

-- +goose Down
-- There is no way back: older programs do not know what the keys made since may do.
