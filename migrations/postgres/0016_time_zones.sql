-- In which time zone a workspace writes moments; none is the one of the service's settings.
ALTER TABLE workspaces ADD COLUMN time_zone TEXT;
