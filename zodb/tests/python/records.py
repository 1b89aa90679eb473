"""Says records that ZODB made, with the class and the references that ZODB finds in them."""
import datetime
import decimal
import pickletools
import random
import sys
import warnings

import BTrees
import persistent
import persistent.mapping
import persistent.wref
import transaction
import ZODB
import ZODB.serialize
import ZODB.utils
from BTrees.Length import Length
from persistent.list import PersistentList
from ZODB.MappingStorage import MappingStorage

from talk import say

random.seed(int(sys.argv[1]))
warnings.simplefilter('ignore')


class Plain(persistent.Persistent):
    pass


class Slotted(persistent.Persistent):
    """Has arguments of its own for __new__, which go into the first pickle."""

    def __new__(cls, *args):
        self = super().__new__(cls)
        self.args = args
        return self

    def __getnewargs__(self):
        return self.args


class NotPersistent:
    def __init__(self, **attributes):
        self.__dict__.update(attributes)


FAMILIES = [BTrees.family32, BTrees.family64]


def tree(objects):
    family = random.choice(FAMILIES)
    kind = random.choice(['OO', 'IO', 'OI', 'II', 'IF'])
    made = getattr(family, kind).BTree()
    for n in random.sample(range(10_000), random.choice([0, 1, 5, 40, 300])):
        key = 'key-%05d' % n if kind[0] == 'O' else n
        made[key] = random.choice(objects) if kind[1] == 'O' else n
    return made


def value(objects, depth=0):
    kind = random.randrange(18 if depth < 4 else 10)
    some = lambda: [value(objects, depth + 1) for _ in range(random.randrange(5))]
    if kind in (0, 1):
        return random.choice(objects)
    if kind == 2:
        return random.choice([None, True, False, 1.5, float('inf')])
    if kind == 3:
        return random.choice([0, -1, 255, 65536, -2**31, 2**40, 2**70, -2**63, 2**2100])
    if kind == 4:
        return random.choice(['', 'text', 'ünïcode', '\ud800', 'x' * 300, '\0\0\0\0\0\0\0\x01'])
    if kind == 5:
        return random.choice([b'', b'bytes', b'\0\0\0\0\0\0\0\x01', b'\xff' * 300])
    if kind == 6:
        return random.choice([datetime.datetime(2020, 1, 2), decimal.Decimal('1.5'), datetime.date(2000, 1, 1)])
    if kind == 7:
        return persistent.wref.WeakRef(random.choice(objects))
    if kind == 8:
        return random.choice([NotPersistent, Plain, len, dict])
    if kind == 9:
        return bytearray(b'abc')
    if kind == 10:
        return tuple(some())
    if kind == 11:
        return some()
    if kind == 12:
        return {random.choice(['a', 'b', 1, None, (1, 2)]): member for member in some()}
    if kind == 13:
        return random.choice([set, frozenset])(random.sample(range(100), 5))
    if kind == 14:
        shared = some()
        return [shared, shared, {'self': shared}]
    if kind == 15:
        endless = some()
        endless.append(endless)
        return endless
    if kind == 16:
        return NotPersistent(inner=value(objects, depth + 1))
    return {'many': [random.choice(objects) for _ in range(random.choice([3, 1500]) if depth < 2 else 3)]}


def fill(objects, abroad):
    for obj in objects:
        if isinstance(obj, (Plain, Slotted)):
            for _ in range(random.randrange(6)):
                setattr(obj, 'a%d' % random.randrange(10), value(objects))
            if random.random() < 0.1:
                obj.abroad = random.choice(abroad)
        elif isinstance(obj, PersistentList):
            obj.extend(value(objects) for _ in range(random.randrange(6)))
        elif isinstance(obj, persistent.mapping.PersistentMapping):
            obj['key'] = value(objects)


def databases():
    there = {}
    main = ZODB.DB(MappingStorage('main'), databases=there, database_name='main')
    ZODB.DB(MappingStorage('abroad'), databases=there, database_name='abroad')
    return main


def as_python_2(data):
    """The record as Python 2 writes it: its bytes and most of its text as strings of unknown kind.

    Those that are not ASCII stay bytes: ZODB on Python 3 cannot read them as anything else, so it could not be asked.
    """
    out, start = [], 0
    while start < len(data):
        operations = list(pickletools.genops(data[start:]))
        ends = [at for _, _, at in operations[1:]] + [operations[-1][2] + 1]
        for (operation, argument, at), end in zip(operations, ends):
            code = data[start + at:start + end]
            if operation.name == 'SHORT_BINBYTES' and argument.isascii():
                code = b'U' + code[1:]
            elif operation.name == 'BINBYTES' and argument.isascii():
                code = b'T' + code[1:]
            elif operation.name == 'BINUNICODE' and argument.isascii() and len(argument) < 256:
                code = b'U' + bytes([len(argument)]) + argument.encode()
            out.append(code)
        start += ends[-1]
    return b''.join(out)


def one_round():
    db = databases()
    connection = db.open()
    other = connection.get_connection('abroad')
    abroad = [Plain() for _ in range(3)]
    for obj in abroad:
        other.add(obj)
    objects = [make() for make in random.choices(
        [Plain, lambda: Slotted(1, 'two'), PersistentList, persistent.mapping.PersistentMapping, lambda: Length(7)], k=120)]
    for obj in objects:
        connection.add(obj)
    fill(objects, abroad)
    connection.root()['objects'] = objects
    connection.root()['trees'] = [tree(objects) for _ in range(12)]
    transaction.commit()
    for transaction_record in db.storage.iterator():
        for record in transaction_record:
            report(record.data)
            report(as_python_2(record.data))
    db.close()


def report(data):
    module, name = ZODB.utils.get_pickle_metadata(data)
    references = list(dict.fromkeys(ZODB.serialize.referencesf(data)))
    say([data, ('%s.%s' % (module, name)).encode(), b''.join(references)])


for _ in range(8):
    one_round()
