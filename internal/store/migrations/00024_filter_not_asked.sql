-- +goose Up
-- Fan-out delivers an event without asking the subscription's filter when its agent's
-- filters have used up their time.
alter table webhook_attempts add column filter_not_asked boolean not null default false;

-- +goose Down
alter table webhook_attempts drop column filter_not_asked;
