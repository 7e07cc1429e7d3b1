-- +goose Up

-- What an agent's clean-up does in every inbox. The API's role sees no host's
-- notifications on an agent's behalf, so the tables' owner does it, for the platform
-- only, and only what has run out.
-- +goose statementbegin
create function krib_cleanup_notifications(p_limit integer) returns integer
  language plpgsql security definer set search_path = pg_catalog, public, pg_temp as $$
begin
  if not public.krib_platform() then
    raise insufficient_privilege using message = 'only the platform cleans up every inbox';
  end if;
  return public.cleanup_expired_notifications(p_limit);
end $$;
-- +goose statementend
revoke execute on function krib_cleanup_notifications from public;
grant execute on function krib_cleanup_notifications to krib_api;

-- +goose Down
drop function krib_cleanup_notifications;
