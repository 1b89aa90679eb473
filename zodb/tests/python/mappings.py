"""Says random triples of states of PersistentMappings, and judges what the test makes of them by what their keys say.

To the test: batches of (class, old, committed, new) for each triple. From it: a mark and a record or a reason for each. Arguments: seed,
triples, and ``alike`` where what both did in the same way is done once.
"""
import collections
import datetime
import decimal
import importlib
import io
import random
import struct
import sys

import zodbpickle.pickle
from persistent import Persistent
from persistent.mapping import PersistentMapping
from ZODB import ConflictResolution
from ZODB._compat import PersistentUnpickler
from ZODB.ConflictResolution import PersistentReference

from talk import hear, say

seed, count, alike = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:] == ['alike']
random.seed(seed)
BATCH = 500
CLASS = b'persistent.mapping.PersistentMapping'


class Target(Persistent):
    pass


class Other(Persistent):
    pass


TEXTS = ['', 'title', 'word', 'x' * 300, '\u00e4', '\ud800']


# Of old protocols bytes are made by a call, and so no persistent id.
protocol = 3


def reference():
    if protocol < 3:
        return 'no reference'
    return PersistentReference((struct.pack('>Q', random.randrange(5)), random.choice([Target, Target, Other])))


def key():
    kind = random.randrange(12)
    if kind < 8:
        return 'k%d' % random.randrange(9)
    if kind == 8:
        return random.randrange(2, 6)
    if kind == 9:
        return ('a', random.randrange(3))
    return random.choice([None, b'b', True, 1, 0.5, 1.0]) if random.random() < 0.2 else 'k'


def value(depth=0):
    kind = random.randrange(16 if depth < 2 else 9)
    if kind < 3:
        return random.choice(TEXTS)
    if kind < 5:
        return random.choice([0, 1, -1, 255, 70000, 2**40, -2**63])
    if kind == 5:
        return random.choice([None, True, False, 0.5, float('inf')])
    if kind < 8:
        return reference()
    if kind == 8:
        return random.choice([b'', b'bytes'])
    if kind == 9:
        return tuple(value(depth + 1) for _ in range(random.randrange(4)))
    if kind == 10:
        return [value(depth + 1) for _ in range(random.randrange(3))]
    if kind == 11:
        return {random.choice(TEXTS): value(depth + 1) for _ in range(random.randrange(3))}
    if kind == 12 and random.random() < 0.1:
        return random.choice([2**200, collections.deque([1]), bytearray(b'changeable')])
    if kind == 12:
        return made()
    return random.choice(['a', 'b', 'c'])


class Plainly:
    """An object that is no persistent one."""

    def __init__(self):
        self.text, self.when = random.choice(TEXTS), random.choice([None, datetime.date(1999, 1, random.randrange(1, 9))])

    def __repr__(self):
        return 'plainly %r %r' % (self.text, self.when)


def made():
    """What a call makes."""
    zone = datetime.timezone(datetime.timedelta(hours=random.randrange(3)))
    return random.choice([
        datetime.date(2000, 1, random.randrange(1, 4)),
        datetime.datetime(2020, 1, 1, random.randrange(3), tzinfo=random.choice([None, zone])),
        decimal.Decimal(random.randrange(3)),
        {1, random.randrange(3)},
        frozenset(['a']),
        Plainly(),
    ])


def changed(items):
    items = dict(items)
    if random.random() < 0.01:
        return {}
    for _ in range(random.choice([0, 1, 1, 2])):
        if items and random.random() < 0.4:
            del items[random.choice(list(items))]
        else:
            items[key()] = value()
    return items


def shared(items):
    """The same changeable value, or the same text, at two places."""
    if random.random() < 0.05:
        one = random.choice([['shared'], {'s': 1}, 'a text that is one', ('a', 'tuple'), made(), [made()]])
        items.update({'k0': one, 'k1': one})
    return items


def record(state):
    out = io.BytesIO()
    pickler = zodbpickle.pickle.Pickler(out, protocol)
    pickler.persistent_id = ConflictResolution.persistent_id
    pickler.dump(PersistentMapping)
    pickler.dump(state)
    return out.getvalue()


def triple():
    global protocol
    protocol = random.choice([3, 3, 3, 3, 2, 1, 0])
    base = shared({key(): value() for _ in range(random.choice([0, 1, 2, 4, 8]))})
    both = changed(base) if random.random() < 0.3 else base
    sides = []
    for items in (base, changed(both), changed(both)):
        state = {'data': items}
        if random.random() < 0.01:
            state = random.choice([None, {'data': items, 'name': 'x'}, {'_container': items}, {'data': 7}])
        sides.append(record(state))
    return sides


def find_class(module, name):
    return getattr(importlib.import_module({'__builtin__': 'builtins', 'copy_reg': 'copyreg'}.get(module, module)), name)


def state_of(data):
    factory = ConflictResolution.PersistentReferenceFactory()
    unpickler = PersistentUnpickler(find_class, factory.persistent_load, io.BytesIO(data))
    unpickler.load()
    return unpickler.load()


def canonical(value):
    if isinstance(value, PersistentReference):
        return 'ref %r' % (value.data,)
    if isinstance(value, (tuple, list)):
        return '%s(%s)' % (type(value).__name__, ', '.join(map(canonical, value)))
    if isinstance(value, dict):
        return 'dict(%s)' % ', '.join('%s: %s' % (canonical(k), canonical(v)) for k, v in value.items())
    return '%s %r' % (type(value).__name__, value)


def is_plain(value, seen, is_key=False):
    """Whether a server can know what it means, and that nobody shares it."""
    if isinstance(value, PersistentReference) or isinstance(value, bool) or isinstance(value, float):
        return not is_key
    if isinstance(value, int):
        return -2**127 <= value < 2**127
    if isinstance(value, (datetime.date, decimal.Decimal)):
        return not is_key
    if isinstance(value, (list, dict, set, frozenset, bytearray, Plainly)):
        if is_key or id(value) in seen:
            return False
        seen.add(id(value))
    if isinstance(value, (set, frozenset, bytearray, Plainly)):
        return True
    if isinstance(value, dict):
        return all(is_plain(k, seen) and is_plain(v, seen) for k, v in value.items())
    if isinstance(value, (tuple, list)):
        return all(is_plain(member, seen, is_key) for member in value)
    return value is None or isinstance(value, (str, bytes))


def is_known(state):
    if not isinstance(state, dict) or list(state) != ['data'] or not isinstance(state['data'], dict):
        return False
    seen = set()
    return all(is_plain(k, seen, True) and is_plain(v, seen) for k, v in state['data'].items())


def by_keys(old, committed, new):
    """The keys that both together mean; None: a conflict."""
    nothing = object()
    sides = [{canonical(k): (k, v) for k, v in side.items()} for side in (old, committed, new)]
    if old and not (committed and new):
        return None
    out = {}
    for name in {**sides[1], **sides[2], **sides[0]}:
        was, first, second = [canonical(side[name][1]) if name in side else nothing for side in sides]
        if second == was:
            at = sides[1]
        elif first == was or (alike and first == second):
            at = sides[2]
        else:
            return None
        if name in at:
            k, v = at[name]
            out[k] = v
    return None if old and not out else out


def judge(records, answer, numbers):
    states = [state_of(data) for data in records]
    mark, answer = answer[:1], answer[1:]
    known = all(is_known(state) for state in states)
    if mark == b'R' and b'left to the client' in answer:
        numbers['left'] += 1
        # Before protocol 3 bytes are made by a call, and so are no keys.
        if known and not (b'made by a call' in answer and b'as the key' in answer):
            return 'the test left what it could know: %s' % answer
        return None
    if not known and mark == b'M':
        return 'the test merged what it cannot know'
    if not known:
        return None
    expected = by_keys(*(state['data'] for state in states))
    if mark == b'M':
        numbers['merged'] += 1
        made = state_of(answer)
        if expected is None or canonical(made) != canonical({'data': expected}):
            return 'the test made %r, the keys say %r' % (made, expected)
        if answer[:answer.index(b'.') + 1] != records[2][:records[2].index(b'.') + 1]:
            return 'the class was written in another way'
    else:
        numbers['conflict'] += 1
        if expected is not None:
            return 'the test refused: %s' % answer
    return None


numbers = collections.Counter()
for start in range(0, count, BATCH):
    triples = [triple() for _ in range(BATCH)]
    say([part for records in triples for part in [CLASS] + records])
    for records, answer in zip(triples, hear()):
        wrong = judge(records, answer, numbers)
        if wrong:
            sys.exit('seed %d: %s\n  %s\n  %s' % (seed, wrong, [state_of(data) for data in records], records))
print(seed, dict(numbers), file=sys.stderr)
if numbers['merged'] < count // 4 or numbers['left'] < count // 50 or numbers['conflict'] < count // 50:
    sys.exit('seed %d: too little was met: %s' % (seed, numbers))
