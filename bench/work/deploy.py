# The same work for pyinfra.
from pyinfra import host
from pyinfra.operations import apt, files, server, systemd

apt.packages(name="Tools", packages=["logrotate", "rsyslog"], no_recommends=True)
apt.packages(name="Servers", packages=["cron", "haproxy", "redis-server"], no_recommends=True)

for user in ["bench-one", "bench-two", "bench-three"]:
    server.user(name=f"User {user}", user=user, shell="/bin/bash")

for path in host.data.directories:
    files.directory(name=f"Directory {path}", path=path, user="root", group="root", mode="755")

for number in range(1, 21):
    files.template(
        name=f"Configuration {number}",
        src=f"templates/conf-{number:02}.j2",
        dest=f"/etc/bench/conf-{number:02}.ini",
        user="root",
        group="root",
        mode="644",
        jinja_env_kwargs={"trim_blocks": True},
        host={"name": host.data.node, "address": host.data.address},
        owner=host.data.owner,
        revision=host.data.revision,
        limits=host.data.limits,
        peers=host.data.peers,
    )

for number in range(1, 6):
    files.line(
        name=f"Limit {number}",
        path="/etc/bench/limits.conf",
        line=rf"^limit-{number}\b.*$",
        replace=f"limit-{number} = {number * 100}",
    )

for service in ["ssh", "cron", "rsyslog", "haproxy", "redis-server"]:
    systemd.service(name=f"Service {service}", service=service, running=True, enabled=True)
