"""What alembic runs to migrate: on the connection that it is handed, in that connection's transaction."""

from alembic import context
from tandem_registry.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,  # SQLite can't alter tables otherwise.
)
with context.begin_transaction():
    context.run_migrations()
