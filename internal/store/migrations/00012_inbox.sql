-- +goose Up

-- An inbox of a million is read a page at a time from either end of an index: the
-- newest first, whatever it is filtered by. The order stands in each index, since a
-- filter that few rows pass would otherwise read and sort all that it passes.
drop index host_notifications_unread;
create index host_notifications_unread on host_notifications (host_id, created_at desc, id desc)
  where deleted_at is null and read_at is null;
create index host_notifications_by_type on host_notifications (host_id, type, created_at desc, id desc) where deleted_at is null;
create index host_notifications_by_priority on host_notifications (host_id, priority, created_at desc, id desc) where deleted_at is null;
create index host_notifications_by_property on host_notifications (host_id, property_id, created_at desc, id desc)
  where deleted_at is null and property_id <> '';
create index host_notifications_by_booking on host_notifications (host_id, booking_id, created_at desc, id desc)
  where deleted_at is null and booking_id <> '';
create index host_notifications_to_act on host_notifications (host_id, created_at desc, id desc)
  where deleted_at is null and action_required;

-- +goose Down
drop index host_notifications_by_type, host_notifications_by_priority, host_notifications_by_property, host_notifications_by_booking,
  host_notifications_to_act, host_notifications_unread;
create index host_notifications_unread on host_notifications (host_id, expires_at) where deleted_at is null and read_at is null;
