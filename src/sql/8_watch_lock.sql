-- To plan a watch: nobody else does so, and nobody edits it.
select w.version
from watchbell.watches w
where w.id = $1 and w.wake_at <= watchbell.instant()
for no key update of w skip locked
