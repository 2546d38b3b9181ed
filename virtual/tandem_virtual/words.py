"""The words that virtual models speak: each is a token of its own."""

from typing import Final

_TEXT: Final = """
a about above across after again air all along also always an and answer any are around as ask at away back be because
been before began begin being below best better between big black blue boat book both bright bring brown build but by
call came can carry change child city clear close cloud cold come could country cut dark day deep did different do
does door down draw dry each early earth easy east eat end enough even evening ever every eye face fall family far
fast father feel few field find fine fire first fish five floor fly follow food for form four free friend from front
full garden gave gentle get give glass go gold good got grass gray great green ground grow had half hand hard has have
he head hear heart heavy help her here high hill him his hold home hope hour house how hundred i idea if in inside
into is island it its jump just keep kind king knew know lake land large last late laugh learn leave left less let
letter life light like line list listen little live long look lost love low made make man many map mark may me mean
milk mind moon more morning most mother mountain move much music must my name near need never next night no north not
note now number ocean of off often old on once one only open or order other our out over own page paper part path
people picture place plain plan plant play point quick quiet rain read ready red rest right river road rock room round
run said sail same saw say school sea second see seed send sentence set seven shadow she ship short should show side
silver simple sing sit six sky sleep slow small snow so some song soon sound south spring stand star start stay step
stone stop story street strong such summer sun sure table take talk tall teach tell ten than that the their them then
there these they thing think this those thousand three through time to today together told too took top toward town
travel tree true try turn two under until up us use valley very village voice walk wall want warm was watch water wave
way we week well went were west what when where which while white who why wide will wind window winter wish with
without wonder word work world would write year yellow yes yet you young your
"""

WORDS: Final = tuple(_TEXT.split())
