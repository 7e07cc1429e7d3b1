-- +goose Up

alter table webhook_subscriptions
  add column description text not null default '',
  add column filter text not null default '',
  add column ordering text not null default 'none'
    constraint webhook_subscriptions_ordering check (ordering in ('none', 'booking', 'latest')),
  -- Requests a minute; 0 for no limit.
  add column rate_limit_per_minute int not null default 0
    constraint webhook_subscriptions_rate_range check (rate_limit_per_minute >= 0),
  add column sealed_headers bytea,
  add column header_names text[] not null default '{}',
  add constraint webhook_subscriptions_max_failed check (max_failed_attempts > 0);

-- Whether the owner was told that it fails, so that it is told once, and once that
-- it is well again.
alter table webhook_health add column told_failing boolean not null default false;

-- +goose Down
alter table webhook_health drop column told_failing;
alter table webhook_subscriptions
  drop column description, drop column filter, drop column ordering, drop column rate_limit_per_minute,
  drop column sealed_headers, drop column header_names, drop constraint webhook_subscriptions_max_failed;
