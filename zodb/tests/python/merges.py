"""Says random triples of states of BTrees' nodes, and judges what the test makes of them by what BTrees' C code does.

To the test: batches of (class, old, committed, new) for each triple. From it: a mark and a record or a reason for each. Arguments: seed,
triples, and ``alike`` where what both did in the same way is done once: of that BTrees knows nothing, so it is judged by the keys.
"""
import collections
import datetime
import importlib
import io
import logging
import random
import struct
import sys

import zodbpickle.pickle
from BTrees.Length import Length
from persistent import Persistent
from ZODB import ConflictResolution
from ZODB._compat import PersistentUnpickler
from ZODB.ConflictResolution import PersistentReference
from ZODB.POSException import BTreesConflictError, ConflictError

from talk import hear, say

seed, count, alike = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:] == ['alike']
random.seed(seed)
logging.disable(logging.CRITICAL)

FAMILIES = 'OO OI OU OL OQ IO II IU IF UO UI UU UF LO LL LQ LF QO QL QQ QF fs'.split()
BATCH = 500


class Target(Persistent):
    pass


def references(n):
    return PersistentReference((struct.pack('>Q', n), Target))


def node_class(family, shape):
    return getattr(importlib.import_module('BTrees.%sBTree' % family), family + shape)


CLASSES = [(family, shape, node_class(family, shape))
           for family in FAMILIES for shape in ('BTree', 'TreeSet', 'Bucket', 'Set')]

INTS = {
    'I': [-2**31, -1, 0, 1, 255, 256, 65535, 65536, 2**31 - 1],
    'L': [-2**63, -2**31 - 1, -1, 0, 255, 2**31, 2**40, 2**63 - 1],
    'U': [0, 1, 255, 65535, 2**31, 2**32 - 1],
    'Q': [0, 255, 2**31, 2**63 - 1, 2**63, 2**64 - 1],
}


def some_int(letter):
    return random.choice(INTS[letter]) if random.random() < 0.3 else random.randrange(40)


def key_maker(family):
    letter = family[0]
    if letter in INTS:
        return lambda: some_int(letter)
    if letter == 'f':
        return lambda: bytes([random.randrange(3), random.randrange(8)])
    kind = random.randrange(8)
    if kind == 0:
        return lambda: random.randrange(30)
    if kind == 1:
        return lambda: (random.randrange(5), random.choice(['a', 'b', 'ä']))
    if kind == 2:
        return lambda: random.choice([random.randrange(10), random.randrange(10) + 0.5, 2**70])
    if kind == 3:
        return lambda: bytes([random.randrange(30)])
    if kind == 4:
        return lambda: random.choice([None] + list(range(20)))
    return lambda: random.choice(['', 'k%d', 'ключ%d', '\U0001f600%d', '\ud800%d', 'x' * 300 + '%d']).replace(
        '%d', str(random.randrange(12)))


def value_maker(family):
    letter = family[1]
    if letter in INTS:
        return lambda: some_int(letter)
    if letter == 'F':
        return lambda: random.choice([0.0, 0.1, 1, -1.5, 2.5, float('inf'), float('nan')])
    if letter == 's':
        return lambda: bytes([random.randrange(3)] * 6)
    kind = random.randrange(14)
    if kind < 3:
        return lambda: references(random.randrange(6))
    if kind < 5:
        return lambda: random.choice(['a', 'b', 'c', '', '\ud800'])
    if kind == 5:
        return lambda: random.choice([None, 1, 2, True, 0, 1.0, 2**53 + 1, float(2**53)])
    if kind == 6:
        return lambda: random.choice([0, 1.5, float('nan'), float('-inf'), 2**70, -2**70, -0.0])
    if kind == 7:
        return lambda: (random.randrange(2), random.choice(['a', 'b']), random.choice([(), (1,), b'z']))
    if kind == 8:
        return lambda: random.choice([(1, None), (1, 2), (2, 'a'), (1,), ('a', references(1)), (1, references(2))])
    if kind == 9:
        return lambda: random.choice([b'', b'a', b'\xff' * 300])
    if kind == 10:
        return lambda: random.choice([[1], [1, 'a'], [], [2, 3]])
    if kind == 11:
        return lambda: random.choice(['a', 7, None, b'a', (1,), references(1), {}])
    if kind == 12:
        return lambda: datetime.date(2000, 1, random.randrange(1, 4))
    return lambda: random.choice([Target, {'a': 1}, 2**200, datetime.datetime(2020, 1, 1)])


def changed(items, key, value):
    items = dict(items)
    if random.random() < 0.01:
        return {}
    for _ in range(random.choice([0, 1, 1, 1, 2, 3])):
        there = sorted(items, key=order) if items else []
        what = random.randrange(4)
        if what == 0 and there:
            at = random.randrange(len(there)) if random.random() < 0.8 else random.choice([0, -1])
            del items[there[at]]
        elif what == 1 and there:
            items[random.choice(there)] = value()
        else:
            items[key()] = value()
    return items


def order(key):
    return (key is not None, key) if key is not None else (False,)


def state_of(cls, shape, items, following):
    if not items and random.random() < 0.5:
        return None
    node = cls()
    if shape.endswith('Set'):
        for key in items:
            node.add(key)
    else:
        for key, value in items.items():
            node[key] = value
    state = node.__getstate__()
    if shape in ('Bucket', 'Set') and following is not None:
        state = state + (following,)
    return state


def record(cls, state):
    out = io.BytesIO()
    pickler = zodbpickle.pickle.Pickler(out, 3)
    pickler.persistent_id = ConflictResolution.persistent_id
    pickler.dump(cls)
    pickler.dump(state)
    return out.getvalue()


def size(family):
    return random.choice([0, 1, 2, 3, 5, 8, 20] if family[0] in 'Of' else [0, 1, 2, 3, 5, 8, 20, 50])


def triple():
    if random.random() < 0.02:
        old, committed, new = (random.choice([0, 1, -5, 300, 70000, 2**40, -2**63, 2**63, 2**100]) for _ in 'ocn')
        return Length, [record(Length, state) for state in (old, committed, new)]
    family, shape, cls = random.choice(CLASSES)
    key, value = key_maker(family), value_maker(family)
    base = {key(): value() for _ in range(size(family))}
    following = random.choice([None, references(7)])
    split = random.random() < 0.02
    out = []
    both = changed(base, key, value) if alike and random.random() < 0.5 else base
    for items in (base, changed(both, key, value), changed(both, key, value)):
        then = references(8) if split and random.random() < 0.5 else following
        if split and 'Tree' in shape and random.random() < 0.5:
            child = PersistentReference((b'\0' * 7 + b'\x05', cls))
            out.append(record(cls, ((child, next(iter(items), key()), child), child)))
        else:
            out.append(record(cls, state_of(cls, shape, items, then)))
    return cls, out


class Storage(ConflictResolution.ConflictResolvingStorage):
    def loadSerial(self, oid, serial):
        return self.old


storage = Storage()


def find_class(module, name):
    return getattr(importlib.import_module(module), name)


def states(records):
    factory = ConflictResolution.PersistentReferenceFactory()
    for data in records:
        unpickler = PersistentUnpickler(find_class, factory.persistent_load, io.BytesIO(data))
        unpickler.load()
        yield unpickler.load()


def by_c(cls, records):
    """The merged record, or none and the reason's number."""
    storage.old = records[0]
    try:
        return storage.tryToResolveConflict(b'\0' * 8, b'c' * 8, b'o' * 8, records[2], records[1]), None
    except ConflictError:
        pass
    try:
        cls()._p_resolveConflict(*states(records))
    except BTreesConflictError as error:
        return None, error.reason
    except Exception as error:
        return None, type(error).__name__
    return None, 'pickling'


def canonical(value):
    if isinstance(value, PersistentReference):
        return 'ref %r' % (value.data,)
    if isinstance(value, (tuple, list)):
        return '%s(%s)' % (type(value).__name__, ', '.join(map(canonical, value)))
    return '%s %r' % (type(value).__name__, value)


def items_of(cls, state):
    """Keys and values of a small tree or a bucket, and what is behind it."""
    name = cls.__name__
    if state is not None and ('Tree' in name):
        (state,), = state
    if state is None:
        return {}, ()
    flat = state[0]
    pairs = [(key, None) for key in flat] if name.endswith('Set') else list(zip(flat[::2], flat[1::2]))
    return {canonical(key): (key, value) for key, value in pairs}, state[1:]


def alike_to_the_bit(a, b):
    return (a is None) == (b is None) and (a is None or canonical(a[1]) == canonical(b[1]))


def unchanged(a, b):
    """To BTrees 1 and 1.0 are the same, and the new one is taken."""
    numbers = (int, float)
    return alike_to_the_bit(a, b) or (
        None not in (a, b) and isinstance(a[1], numbers) and isinstance(b[1], numbers) and a[1] == b[1])


def by_keys(cls, records):
    """What both together mean, as pairs in canonical form; None: a conflict."""
    (old, _), (committed, _), (new, _) = sides = [items_of(cls, state) for state in states(records)]
    if len({canonical(behind) for _, behind in sides}) > 1 or not committed or not new:
        return None
    out = {}
    for name in {**old, **committed, **new}:
        was, first, second = [side.get(name) for side in (old, committed, new)]
        if unchanged(was, first):
            at = new
        elif unchanged(was, second):
            at = committed
        elif alike_to_the_bit(first, second):
            at = new
        else:
            return None
        if name in at:
            out[name] = canonical(at[name][1])
        elif any(name not in side and all(order(key) > order(old[name][0]) for key, _ in side.values())
                 for side in (committed, new)):
            return None
    return out or None


ALIKE = (1, 4, 5, 6, 7, 8, 9)


def judge_alike(cls, records, answer, numbers):
    """Of what BTrees refuses for one key of both."""
    if any('nan' in canonical(state) for state in states(records)):
        # To C it is the same as any number.
        return None
    expected = by_keys(cls, records)
    mark, answer = answer[:1], answer[1:]
    if mark == b'M':
        numbers['alike'] += 1
        made = {name: canonical(value) for name, (_, value) in items_of(cls, list(states([answer]))[0])[0].items()}
        return None if made == expected else 'the test made %r, the keys say %r' % (made, expected)
    numbers['not alike'] += 1
    # Not every two values have an order.
    if expected is not None and not any(name in answer for name in (b'left to the client', b'are compared')):
        return 'the test refused: %s' % answer
    return None


def judge(cls, records, answer, numbers):
    merged, reason = by_c(cls, records)
    if alike and merged is None and reason in ALIKE and b'left to the client' not in answer:
        return judge_alike(cls, records, answer, numbers)
    mark, answer = answer[:1], answer[1:]
    if merged is not None and mark == b'M':
        by_test, by_btrees = list(states([answer]))[0], list(states([merged]))[0]
        if canonical(by_test) != canonical(by_btrees):
            return 'the test made %r, BTrees %r' % (by_test, by_btrees)
        if answer[:answer.index(b'.') + 1] != merged[:merged.index(b'.') + 1]:
            return 'the class was written in another way'
        numbers['merged'] += 1
    elif mark == b'M':
        return 'the test merged what BTrees does not, for %s: %r' % (reason, answer)
    elif b'left to the client' in answer:
        numbers['left, and ' + ('merged' if merged else 'a conflict')] += 1
        if merged and not any(name in answer for name in LEFT):
            return 'the test left what BTrees merges: %s' % answer
    elif merged is not None:
        return 'the test refused what BTrees merges: %s' % answer
    elif b'are compared' in answer:
        # C goes on after the error, and may come to a reason before it raises it.
        numbers['different references'] += 1
    elif isinstance(reason, int):
        numbers['reason %d' % reason] += 1
        if b'reason %d' % reason not in answer:
            return 'reason %d, but the test says %s' % (reason, answer)
    elif b'reason' in answer:
        return '%s, but the test says %s' % (reason, answer)
    else:
        numbers['not comparable'] += 1
    return None


# What only Python can carry or compare.
LEFT = [b'made by a call', b'with a state', b'a dict', b'a class', b'more than 128 bits']

numbers = collections.Counter()
for start in range(0, count, BATCH):
    triples = [triple() for _ in range(BATCH)]
    parts = []
    for cls, records in triples:
        parts += [('%s.%s' % (cls.__module__, cls.__name__)).encode()] + records
    say(parts)
    for (cls, records), answer in zip(triples, hear()):
        wrong = judge(cls, records, answer, numbers)
        if wrong:
            sys.exit('seed %d: %s: %s\n  %s' % (seed, cls, wrong, list(states(records))))
print(seed, dict(numbers), file=sys.stderr)
if alike and numbers['alike'] < count // 20:
    sys.exit('seed %d: too little was met: %s' % (seed, numbers))
if numbers['merged'] < count // 4 or not alike and any(numbers['reason %d' % n] == 0 for n in (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13)):
    sys.exit('seed %d: too little was met: %s' % (seed, numbers))
