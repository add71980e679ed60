# make demo | test | check | coverage | bench | chaos SECONDS= SEED= DATABASE= FAULTS= | install DESTDIR= PREFIX=

PYTHON ?= /usr/bin/python3
PREFIX ?= /usr/local
DESTDIR ?=
# Test processes side by side: most tests wait for servers and time-outs.
WORKERS ?= 4

VENV := .venv
LOWEST := .venv-lowest
# What pyproject.toml promises beside the Python of the machine.
OTHER_PYTHONS := 3.12 3.13
BIN := $(VENV)/bin

# What the tests drive; psql, mariadb and sqlite3 come with them.
SERVERS := postfix postfix-pgsql postfix-mysql postfix-sqlite dovecot-imapd dovecot-pop3d \
	dovecot-pgsql dovecot-mysql postgresql mariadb-server cron systemd strace syslog-ng-core
VENV_PACKAGE := python3-venv
SOURCES := pyproject.toml popbsmtp_wrap/__init__.py popbsmtp_wrap/wrapper/launch.py

.PHONY: demo test check coverage bench chaos install servers venv-package clean

demo: $(VENV)/installed
	@$(BIN)/popbsmtp demo

# The lowest versions first: the last line is that of the whole suite.
test: servers $(VENV)/developed $(LOWEST)/installed
	$(LOWEST)/bin/pytest -q -n $(WORKERS) tests/store -m "not slow"
	WORKERS=$(WORKERS) sh tests/other-pythons $(OTHER_PYTHONS)
	$(BIN)/pytest -n $(WORKERS)

check: $(VENV)/developed
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@out=$$($(BIN)/lint-imports --no-cache) || { echo "$$out"; exit 1; }
	@$(BIN)/pytest -q -n 2 tests/unit

# What the tests without servers reach, branch by branch; a report, no bound.
coverage: $(VENV)/developed
	$(BIN)/pytest -q -n 2 --cov=popbsmtp_wrap --cov-branch --cov-report=term:skip-covered \
		tests/unit tests/cli tests/spool

bench: servers $(VENV)/developed
	$(BIN)/python -m bench

# A random schedule of faults; without SEED= another one each time. DATABASE=sqlite, postgresql,
# mariadb or all; FAULTS=kill_recorder,lock_row has these alone.
SECONDS ?= 60
DATABASE ?= all
chaos: servers $(VENV)/developed
	@$(BIN)/python -m tests.chaos --seconds $(SECONDS) --database $(DATABASE) \
		$(if $(SEED),--seed $(SEED)) $(if $(FAULTS),--faults $(FAULTS))

servers:
	@missing=$$(dpkg-query -W -f '$${Package} $${db:Status-Status}\n' $(SERVERS) 2>/dev/null \
		| awk '$$2 == "installed" { have[$$1] = 1 } \
		END { n = split("$(SERVERS)", all); \
		for (i = 1; i <= n; i++) if (!(all[i] in have)) printf "%s ", all[i] }'); \
	sh tests/install-packages $$missing

# A fresh Debian has python3 without ensurepip.
venv-package:
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || sh tests/install-packages $(VENV_PACKAGE)

$(VENV)/bin/python: | venv-package
	$(PYTHON) -m venv $(VENV)

# pip's popbsmtp-wrap makes way for the launcher, which starts Python as -I -S.
$(VENV)/installed: $(SOURCES) | $(VENV)/bin/python
	$(BIN)/pip install --quiet --disable-pip-version-check --editable .
	$(BIN)/python -I -m popbsmtp_wrap.wrapper.installer $(BIN)/popbsmtp-wrap
	@$(BIN)/python -m compileall -q popbsmtp_wrap
	@touch $@

$(VENV)/developed: $(VENV)/installed
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	$(BIN)/python -I -m popbsmtp_wrap.wrapper.installer $(BIN)/popbsmtp-wrap
	@touch $@

$(LOWEST)/installed: $(SOURCES) tests/lowest-versions.txt | venv-package
	$(PYTHON) -m venv --clear $(LOWEST)
	$(LOWEST)/bin/pip install --quiet --disable-pip-version-check \
		--constraint tests/lowest-versions.txt --editable . pytest pytest-xdist alembic
	@touch $@

# A directory of its own with all that the package needs, two programs, and units that name them;
# nothing in it names DESTDIR, so that it can be packed.
LIBRARY := $(PREFIX)/lib/popbsmtp
UNITS := $(PREFIX)/lib/systemd/system
install: $(VENV)/installed
	rm -rf "$(DESTDIR)$(LIBRARY)"
	mkdir -p "$(DESTDIR)$(PREFIX)/bin"
	$(BIN)/pip install --quiet --disable-pip-version-check --target "$(DESTDIR)$(LIBRARY)" .
	rm -rf "$(DESTDIR)$(LIBRARY)/bin"
	$(PYTHON) -m compileall -q -s "$(DESTDIR)" "$(DESTDIR)$(LIBRARY)"
	$(BIN)/python -I -m popbsmtp_wrap.wrapper.installer \
		"$(DESTDIR)$(PREFIX)/bin/popbsmtp-wrap" "$(PYTHON)" "$(LIBRARY)"
	printf '#!%s -I\nimport sys\n\nsys.path.insert(0, "%s")\nfrom popbsmtp_wrap.cli.main import main\n\nmain()\n' \
		"$(PYTHON)" "$(LIBRARY)" > "$(DESTDIR)$(PREFIX)/bin/popbsmtp"
	chmod 755 "$(DESTDIR)$(PREFIX)/bin/popbsmtp"
	mkdir -p "$(DESTDIR)$(UNITS)"
	for unit in popbsmtp.socket popbsmtp.service; do \
		sed 's,/usr/local/bin,$(PREFIX)/bin,' systemd/$$unit > "$(DESTDIR)$(UNITS)/$$unit" \
		&& chmod 644 "$(DESTDIR)$(UNITS)/$$unit" || exit 1; done

clean:
	rm -rf $(VENV) $(LOWEST) $(OTHER_PYTHONS:%=$(VENV)-%) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage
