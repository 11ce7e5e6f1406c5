-- Numbers of a template's versions are never given twice, also not after it was deleted and made anew: other nodes
-- hold versions in memory by their number.
CREATE TABLE deleted_templates (
    workspace_id TEXT NOT NULL REFERENCES workspaces (id),
    id TEXT NOT NULL,
    version BIGINT NOT NULL,
    PRIMARY KEY (workspace_id, id)
);

-- By which a content that nobody shows any more is found.
CREATE INDEX template_images_by_digest ON template_images (workspace_id, digest);
CREATE INDEX template_files_by_digest ON template_files (workspace_id, digest);
