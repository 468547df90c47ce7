"""SIP phones in a process of their own: JSON lines with commands on stdin, JSON lines with events on stdout.

This package is run (`-m centralita.lab.phone_agent`) by an interpreter that PJSUA2 has a wheel for, not by the one
that runs Centralita, so it imports nothing but the standard library and pjsua2. Secrets come by stdin only.
`centralita.lab.phones` is its client.
"""
