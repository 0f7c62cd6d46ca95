"""`mpfora web`: the page and the JSON API for people who run a cluster, over one mirror of it. It holds no state and no
database: any number of them run at once, and each may be restarted at any time. The server looks on as every client
does: it imports client and model, and nothing of the supervisor's.

settings.py   what is listened on, who may come in, what is hidden: refused where it cannot hold
people.py     who somebody is, and what a role may do
entry.py      how somebody is known: the link, a token, a password, a proxy's header, a certificate
guard.py      what every request passes first: headers, size, origin, entry, role
redaction.py  what nobody is shown of props, checkpoints and results (pure)
audit.py      every action with who
page_data.py  the mirror, and what is kept in memory of the last minutes
overview.py   what needs attention, and the table by handler (pure)
charts.py     the last 15 minutes (pure)
views.py      what each page shows, as JSON
stream.py     the same, live, once a second at most
log_stream.py what a task prints, live
actions.py    what people do to tasks and nodes, and how it ended
api.py        the routes; openapi.py  their description
server.py     the whole, served
"""
