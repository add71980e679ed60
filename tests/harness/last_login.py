"""Dovecot's own plugin last_login, set up to do POP-before-SMTP: one row for each address.

The manual's example has a key of user, service and address; PostgreSQL cannot update such a row,
because Dovecot names all fields of the key but the table has another one (lib-dict/dict-sql.c).
It needs the packages dovecot-pgsql and dovecot-mysql.
"""

from pathlib import Path

from .database import Database
from .directories import write

TABLE = "CREATE TABLE pop (ip varchar(45) PRIMARY KEY, seen bigint NOT NULL)"

_DRIVERS = {"postgresql": "pgsql", "mysql": "mysql"}
_CONFIGURATION = """\
protocol imap {{
  mail_plugins = $mail_plugins last_login
}}
protocol pop3 {{
  mail_plugins = $mail_plugins last_login
}}
plugin {{
  last_login_dict = proxy::sql
  last_login_key = pop/%{{rip}}
}}
dict {{
  sql = {driver}:{path}
}}
service dict {{
  unix_listener dict {{
    mode = 0666
  }}
}}
"""
_MAP = """\
connect = host={host} port={port} dbname={name} user={user} password={password}
map {{
  pattern = shared/pop/$ip
  table = pop
  value_field = seen
  value_type = uint
  fields {{
    ip = $ip
  }}
}}
"""


def last_login(path: Path, server: Database, name: str) -> str:
    """Return Dovecot's configuration for TABLE in the database *name*; *path* gets its map."""
    text = _MAP.format(
        host=server.host,
        port=server.port,
        name=name,
        user=server.superuser,
        password=server.password,
    )
    write(path, text, mode=0o640, owner="root:dovecot")
    return _CONFIGURATION.format(driver=_DRIVERS[server.scheme], path=path)
