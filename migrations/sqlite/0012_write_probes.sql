-- One row, written again and again to find out whether the database can be written.
CREATE TABLE write_probes (
    id BIGINT NOT NULL PRIMARY KEY CHECK (id = 1),
    content TEXT NOT NULL
);
