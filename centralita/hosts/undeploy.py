"""Takes a clone from its host: shut down, unknown to the host, its system disk gone and its data kept unless purged."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from centralita.ground.report import get_reporter
from centralita.hosts.address import parse_host
from centralita.hosts.deploy import reached
from centralita.hosts.records import read_clone, read_deployed, write_deployed
from centralita.hosts.stop import stop


def undeploy(folder: Path, *, purge: bool = False) -> list[str]:
    """Take the clone in `folder` from the host that it was deployed on; nothing happens where it was on none.

    The data disk stays on the host, and is taken up again by the next deployment there, unless `purge`. The golden
    image stays too. Returns what was done, in words. Raises CentralitaError where the host does not answer.
    """
    deployed = read_deployed(folder)
    if deployed is None:
        return []
    clone = read_clone(folder)
    reporter = get_reporter()
    done = []
    with reached(parse_host(deployed.host)) as (shell, driver):
        if driver.uuid(clone.name) == clone.uuid:
            with reporter.step(f"shut {clone.name} down"):
                stop(driver, clone.name)
                driver.undefine(clone.name)
            done.append(f"{clone.name} is unknown to {deployed.host}")
        place = PurePosixPath(deployed.to) / "clones" / clone.name
        data = place / clone.data.name if clone.data is not None else None
        keep = data is not None and not purge and shell.exists(data)
        if keep and data is not None:
            others = [str(place), "-mindepth", "1", "-maxdepth", "1", "!", "-name", data.name]
            shell.run(["find", *others, "-exec", "rm", "-rf", "--", "{}", "+"])
            done.append(f"its data stay in {data}")
        else:
            shell.run(["rm", "-rf", "--", place])
    write_deployed(folder, None)
    return done
