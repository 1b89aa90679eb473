import zeolite                                        # pip install zeolite

class Page(zeolite.Object, cls="wiki.Page", version=2):
    title: str; body: str; author_name: str; author_mail: str
    hits: zeolite.Counter; comments: zeolite.List[str]
    @zeolite.upgrade(1)                               # old shape as a dict
    def _v1(old): name, _, mail = old.pop("author").partition(" <"); return {**old, "author_name": name, "author_mail": mail.rstrip(">")}

db = zeolite.connect("db:7878")                       # cache, feed, reconnect, commit keys inside
@db.transaction(note="web request")                   # repeated on conflict; raise to roll back
def add(tx, title, body):
    page = tx.create(Page(title=title, body=body, author_name="Ada", author_mail=""))
    tx.root.unique("titles")[title] = page            # KeyError when taken
    page.hits += 1                                    # an operation, never a conflict
with db.snapshot("2h") as old: print(old.root.unique("titles")["Home"].body)
zeolite.evolve.run(db, "pages-2", Page)               # a worker; as many as you like
