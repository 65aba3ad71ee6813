"""MQTT: the broker that the hub runs, its accounts, the hub's own connection, and its inbox."""
