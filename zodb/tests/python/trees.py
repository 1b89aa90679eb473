"""Concurrent transactions on BTrees, on a database whose storage is the test at the other end.

Several connections begin at one snapshot, set and delete keys, and commit one after the other. What was committed is replayed on
plain dicts in the order of the commits: the trees must be the same, and sane. Arguments: seed, rounds, sizes of leaves and inner nodes.
"""
import collections
import logging
import random
import re
import struct
import sys

import transaction
import ZODB
import ZODB.utils
from BTrees.check import check
from BTrees.IIBTree import IIBTree
from BTrees.LOBTree import LOTreeSet
from BTrees.OOBTree import OOBTree
from ZODB.POSException import ConflictError, POSKeyError, ReadConflictError

from talk import hear, say

seed, rounds, leaf, inner = map(int, sys.argv[1:])
random.seed(seed)
logging.disable(logging.CRITICAL)

for cls in (OOBTree, IIBTree, LOTreeSet):
    cls.max_leaf_size = leaf
    cls.max_internal_size = inner


def ask(*parts):
    say(parts)
    return hear()


class Storage:
    """What ZODB needs of a storage; each commit is one draft."""

    def __init__(self):
        self.oids = []

    def registerDB(self, db):
        self.db = db

    def getName(self):
        return 'test'

    sortKey = getName

    def isReadOnly(self):
        return False

    def close(self):
        pass

    def lastTransaction(self):
        return ask(b'last')[0]

    def new_oid(self):
        if not self.oids:
            first, = struct.unpack('>Q', ask(b'oids')[0])
            self.oids = list(range(first + 999, first - 1, -1))
        return struct.pack('>Q', self.oids.pop())

    def loadBefore(self, oid, tid):
        found = ask(b'load', oid, tid)
        if found[0] != b'here':
            raise POSKeyError(oid)
        return found[1], found[2], found[3] or None

    def tpc_begin(self, transaction):
        self.parts = []

    def store(self, oid, serial, data, version, transaction):
        self.parts += [b'write', oid, serial or ZODB.utils.z64, data]

    def checkCurrentSerialInTransaction(self, oid, serial, transaction):
        self.parts += [b'read', oid, serial, b'']

    def tpc_vote(self, transaction):
        answer = ask(b'commit', *self.parts)
        if answer[0] == b'read conflict':
            raise ReadConflictError(answer[1].decode())
        if answer[0] != b'done':
            raise ConflictError(answer[1].decode())
        self.tid, self.merged = answer[1], answer[2:]
        return self.merged

    def tpc_finish(self, transaction, f=lambda tid: None):
        f(self.tid)
        # The other connections hear only of what was stored; a replay writes elsewhere.
        self.db.invalidate(self.tid, self.merged)
        return self.tid

    def tpc_abort(self, transaction):
        pass


def reason(error):
    """The last one that is told: if there was a replay, why it was refused."""
    numbers = re.findall('reason ([0-9]+)', str(error))
    return numbers[-1] if numbers else str(error)[-80:]


causes = collections.Counter()
db = ZODB.DB(Storage())
NAMES = ['oo', 'ii', 'set']


class Client:
    def __init__(self):
        self.manager = transaction.TransactionManager(explicit=True)
        self.connection = db.open(self.manager)

    def begin(self):
        self.manager.begin()
        self.done = []

    def tree(self, name):
        return self.connection.root()[name]

    def change(self):
        name = random.choice(NAMES)
        tree = self.tree(name)
        if (name, None, None) in self.done:
            return
        if random.random() < 0.01 and len(tree) > 2 * leaf and not self.done:
            # Its buckets are left as they are, and nothing leads to them any more.
            tree.clear()
            self.done.append((name, None, None))
            return
        # Neighbours: what evolves and indexes do.
        at, step = random.randrange(400), random.choice([1, 1, 7])
        removes = random.random() < 0.4
        for key in range(at, at + step * random.randrange(1, 9), step):
            key = 'k%04d' % key if name == 'oo' else key
            if removes:
                if key in tree:
                    tree.remove(key) if name == 'set' else tree.__delitem__(key)
                    self.done.append((name, key, None))
            else:
                value = random.randrange(1000)
                tree.add(key) if name == 'set' else tree.__setitem__(key, value)
                self.done.append((name, key, value))

    def commit(self):
        try:
            self.manager.commit()
            return 'committed'
        except ReadConflictError as error:
            self.manager.abort()
            causes[reason(error)] += 1
            return 'read conflict'
        except ConflictError as error:
            self.manager.abort()
            causes[reason(error)] += 1
            return 'conflict'


first = Client()
first.begin()
first.connection.root().update(oo=OOBTree(), ii=IIBTree(), set=LOTreeSet())
first.manager.commit()

model = {name: {} for name in NAMES}


def replay(done, before):
    """What was changed after all, that is: a key that is as it was is in no write, and whoever else changed it has the say."""
    if done and done[0][1] is None:
        model[done[0][0]].clear()
        done = done[1:]
    for (name, key), value in {(name, key): value for name, key, value in done}.items():
        value = True if name == 'set' and value is not None else value
        if before[name].get(key) == value:
            continue
        if value is None:
            model[name].pop(key, None)
        else:
            model[name][key] = value


def judge(at):
    first.begin()
    first.connection.cacheMinimize()
    for name in NAMES:
        tree = first.tree(name)
        tree._check()
        check(tree)
        there = dict.fromkeys(tree, True) if name == 'set' else dict(tree.items())
        if there != model[name]:
            wrong = {key for key in there.keys() | model[name].keys() if there.get(key) != model[name].get(key)}
            sys.exit('seed %d, round %d: %s is not what was committed: %s' % (seed, at, name, sorted(wrong)))
    first.manager.abort()


clients = [Client() for _ in range(4)]
outcomes = {'committed': 0, 'conflict': 0, 'read conflict': 0}
for at in range(rounds):
    for client in clients:
        client.begin()
        for _ in range(random.choice([1, 1, 2, 3])):
            client.change()
    random.shuffle(clients)
    before = {name: dict(keys) for name, keys in model.items()}
    for client in clients:
        outcome = client.commit()
        outcomes[outcome] += 1
        if outcome == 'committed':
            replay(client.done, before)
    if at % 10 == 9:
        judge(at)
judge(rounds)
sizes = {name: len(keys) for name, keys in model.items()}
say([b'ended'] + [b'%d' % outcomes[name] for name in ('committed', 'conflict', 'read conflict')])
print('seed %d: %s, sizes %s, reasons %s' % (seed, outcomes, sizes, dict(causes)), file=sys.stderr)
