"""An address and a key."""

from workers.connectors.contract import Connection, Secret


class Options(Connection):
    api_key: Secret

    def login(self) -> tuple[str, ...]:
        return (self.api_key.get_secret_value(),)
