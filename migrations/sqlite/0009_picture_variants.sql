-- A role may have several prepared pictures, of which a card's values choose one.
CREATE TABLE template_files_with_variants (
    workspace_id TEXT NOT NULL,
    template_id TEXT NOT NULL,
    version BIGINT NOT NULL,
    tier TEXT NOT NULL,
    variant TEXT NOT NULL,
    path TEXT NOT NULL,
    digest BLOB NOT NULL,
    PRIMARY KEY (workspace_id, template_id, version, tier, variant, path),
    FOREIGN KEY (workspace_id, template_id, version) REFERENCES template_versions (workspace_id, template_id, version),
    FOREIGN KEY (workspace_id, digest) REFERENCES blobs (workspace_id, digest)
);
INSERT INTO template_files_with_variants (workspace_id, template_id, version, tier, variant, path, digest)
    SELECT workspace_id, template_id, version, tier, '', path, digest FROM template_files;
DROP TABLE template_files;
ALTER TABLE template_files_with_variants RENAME TO template_files;
CREATE INDEX template_files_by_digest ON template_files (workspace_id, digest);
