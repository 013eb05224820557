"""The words of the simulated shop: tables only. `simulate.py` and `shop.py` make products, titles and queries of them.

In every list of words for one thing, the first is the plain one that is seen in training; of the others, some
are only ever used in validation or only in test.
"""

from __future__ import annotations

from dataclasses import dataclass


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(","))


@dataclass(frozen=True)
class Category:
    """One kind of product.

    nouns: its names. cues: what titles say of nothing else. uses: what people search it for. near: categories that
    are easily confused with it, parts and accessories among them. sizes: key of SIZES. materials: keys of MATERIALS.
    """

    name: str
    nouns: tuple[str, ...]
    cues: tuple[str, ...]
    uses: tuple[str, ...]
    near: tuple[str, ...]
    department: str
    sizes: str | None
    materials: tuple[str, ...]
    for_people: bool


def _category(
    name: str,
    *,
    nouns: str,
    cues: str,
    uses: str,
    near: str,
    department: str,
    sizes: str | None = None,
    materials: str = "",
    for_people: bool = False,
) -> Category:
    return Category(
        name=name,
        nouns=_split(nouns),
        cues=_split(cues),
        uses=_split(uses),
        near=_split(near),
        department=department,
        sizes=sizes,
        materials=_split(materials) if materials else (),
        for_people=for_people,
    )


CATEGORIES = (
    # ------------------------------------------------------------ shoes
    _category(
        "running shoes",
        nouns=("running shoes, trainers, sneakers, joggers, athletic shoes, runners, jogging shoes, gym shoes"),
        cues=(
            "cushioned midsole, marathon tested, breathable mesh upper, responsive stride, tempo race "
            "day, road jogging grip, heel drop 8 mm, sprint ready, track and treadmill, energy return "
            "foam, pronation support, interval sprinter"
        ),
        uses=(
            "something to jog in, footwear for a marathon, for sprinting on the track, to wear on the "
            "treadmill, for my first 10k race"
        ),
        near="hiking boots, formal shoes, sandals, slippers",
        department="shoes",
        sizes="shoe",
        materials="mesh, leather, canvas",
        for_people=True,
    ),
    _category(
        "hiking boots",
        nouns=("hiking boots, trekking boots, walking boots, mountain boots, hikers, trail boots, rambling boots"),
        cues=(
            "ankle support lugged sole, alpine summit grip, waterproof membrane backpacker, rocky terrain "
            "traction, mud proof mountaineer, crampon compatible, backcountry ankle high, wilderness "
            "trekker, rugged scree gaiter hook, forest trail waterproof lace up, high ankle peak "
            "explorer, toe guard for rocky paths"
        ),
        uses=(
            "to climb mountains in, footwear for the alps, for rambling in the hills, for a trek through "
            "the wilderness, to keep my ankles safe on rocky paths"
        ),
        near="running shoes, formal shoes, sandals, tent",
        department="shoes",
        sizes="shoe",
        materials="leather, suede, canvas",
        for_people=True,
    ),
    _category(
        "formal shoes",
        nouns=("dress shoes, oxfords, brogues, derby shoes, office shoes, loafers, lace-up business shoes, wingtips"),
        cues=(
            "goodyear welted, polished cap toe, for suit and tie, elegant wedding groom, hand burnished, "
            "boardroom classic, monk strap buckle, tuxedo matching, black tie evening sole, cobbler made, "
            "penny strap slip in, glossy ballroom finish"
        ),
        uses=(
            "footwear for a wedding, to wear with a suit, for a job interview on my feet, shoes that go with a tuxedo"
        ),
        near="running shoes, hiking boots, sandals, slippers",
        department="shoes",
        sizes="shoe",
        materials="leather, suede",
        for_people=True,
    ),
    _category(
        "sandals",
        nouns=(
            "sandals, flip flops, thongs footwear, slides, espadrille sandals, gladiator sandals, beach "
            "shoes, flip-flops"
        ),
        cues=(
            "open toe beach walk, toe post poolside, strappy summer, seaside slip on, barefoot feel "
            "straps, cork footbed holiday, airy toes sunny days, sand and surf strap, tropical vacation "
            "step, swimming pool deck, ankle strap open heel, boardwalk breezy"
        ),
        uses=(
            "to wear at the beach on my feet, footwear for hot summer days, open shoes for the pool, for "
            "walking on sand"
        ),
        near="running shoes, formal shoes, slippers, hiking boots",
        department="shoes",
        sizes="shoe",
        materials="leather, rubber, cork",
        for_people=True,
    ),
    _category(
        "slippers",
        nouns=("slippers, house shoes, mules for home, moccasin slippers, indoor shoes, bedroom shoes, pantoffles"),
        cues=(
            "cosy fireside, plush fleece lined indoor, memory foam home step, fluffy bedside, warm feet "
            "lounging, pyjama evening soft sole, sheepskin cosy, snug around the house, carpet friendly "
            "sole, winter morning fuzzy, sherpa lined lounge, hotel spa step"
        ),
        uses=(
            "to keep feet warm at home, for warm feet on cold mornings, to wear around the house with "
            "pyjamas, soft shoes for indoors"
        ),
        near="sandals, running shoes, formal shoes, rug",
        department="shoes",
        sizes="shoe",
        materials="wool, suede, cotton",
        for_people=True,
    ),
    # ------------------------------------------------------------ clothes
    _category(
        "jacket",
        nouns="jacket, coat, parka, anorak, windbreaker, raincoat, blouson, overcoat",
        cues=(
            "hooded windproof, zip front storm flap, down filled winter, waterproof shell, taped seams "
            "rain, padded outer layer, drawstring hood snow, insulated expedition, drizzle repellent, "
            "quilted puffer, blizzard ready fur hood, gale proof cuffs"
        ),
        uses=(
            "outerwear for winter, to stay dry in the rain, something to put over a sweater, protection "
            "from wind and snow"
        ),
        near="sweater, trousers, t-shirt, dress",
        department="clothes",
        sizes="clothes",
        materials="wool, leather, cotton, polyester",
        for_people=True,
    ),
    _category(
        "sweater",
        nouns="sweater, jumper, pullover, cardigan, knitwear, hoodie, sweatshirt, jersey top",
        cues=(
            "cable knit, turtleneck ribbed, chunky yarn, hand knitted, crew neck knit, soft warm knit "
            "long sleeve, fair isle, roll neck, v-neck wool blend, nordic pattern knit, brushed fleece "
            "inside hooded, aran stitch"
        ),
        uses=(
            "knitted top for autumn, something warm to wear over a shirt, woollen top, to cuddle up in on "
            "chilly evenings"
        ),
        near="jacket, t-shirt, trousers, dress",
        department="clothes",
        sizes="clothes",
        materials="wool, cotton, polyester",
        for_people=True,
    ),
    _category(
        "trousers",
        nouns="trousers, pants, jeans, chinos, slacks, leggings, denims, cargo pants, joggers bottoms",
        cues=(
            "slim leg zip fly, five pocket, high waist skinny, straight leg turn up, pleated front "
            "crease, bootcut stonewash, belt loops tapered leg, ankle length stretch waist, low rise "
            "distressed, wide leg flared, ripped knee, inseam 32"
        ),
        uses=("to cover my legs, something to wear below the waist, bottoms for the office, legwear for casual friday"),
        near="jacket, sweater, t-shirt, dress",
        department="clothes",
        sizes="clothes",
        materials="cotton, polyester, wool, linen",
        for_people=True,
    ),
    _category(
        "t-shirt",
        nouns="t-shirt, tee, tshirt, short sleeve shirt, graphic tee, polo shirt, tank top, undershirt",
        cues=(
            "short sleeve crew neck, printed slogan front, band logo summer top, jersey basic round neck, "
            "breathable tagless, screen printed, sleeveless gym top, pique collar short sleeve, muscle "
            "fit top, v-neck basic top, festival print top, crop hem summer top"
        ),
        uses=(
            "light top for summer, plain top to wear under a jacket, top with a funny print, sleeved top "
            "for hot weather"
        ),
        near="sweater, jacket, trousers, dress",
        department="clothes",
        sizes="clothes",
        materials="cotton, polyester, linen",
        for_people=True,
    ),
    _category(
        "dress",
        nouns="dress, gown, frock, sundress, maxi dress, cocktail dress, ball gown, pinafore",
        cues=(
            "a-line knee length, bridesmaid evening, floor length prom, sleeveless floral midi, wrap "
            "waist flowing hem, lace bodice, spaghetti strap mini, off shoulder elegant, tulle skirt "
            "princess, bodycon party night, empire waist, sequin gala"
        ),
        uses=(
            "something elegant for a bridesmaid, one piece outfit for a prom, outfit for a cocktail party "
            "for a lady, to wear to a gala evening as a woman"
        ),
        near="trousers, t-shirt, sweater, handbag",
        department="clothes",
        sizes="clothes",
        materials="cotton, silk, polyester, linen",
    ),
    # ------------------------------------------------------------ bags
    _category(
        "backpack",
        nouns="backpack, rucksack, knapsack, daypack, school bag, haversack, bookbag, shoulder pack",
        cues=(
            "padded shoulder straps, hip belt hydration sleeve, carry on both shoulders, roll top "
            "commuter, chest strap hiking, student books pocket, top loader with rain cover, ventilated "
            "back panel, campus carry, two strap cyclist carry, bottle side pockets, overnight trekking "
            "load"
        ),
        uses=(
            "to carry school books on my back, to take on a hike with both hands free, to carry on the "
            "shoulders, to carry things for pupils"
        ),
        near="handbag, suitcase, laptop bag, wallet",
        department="bags",
        sizes="litre",
        materials="canvas, leather, polyester",
    ),
    _category(
        "handbag",
        nouns="handbag, purse, tote, clutch, shoulder bag, satchel for women, crossbody bag, pocketbook",
        cues=(
            "chain strap evening, ladies top handle, gold clasp elegant, quilted flap, hobo slouch, "
            "shopper for ladies, makeup pocket inside, designer inspired carry, detachable strap "
            "feminine, bucket drawstring chic, magnetic snap fashion, crocodile pattern lady"
        ),
        uses=(
            "to carry lipstick and keys on a night out, small elegant bag for a lady, accessory to go "
            "with an evening gown"
        ),
        near="backpack, suitcase, wallet, laptop bag",
        department="bags",
        materials="leather, canvas, suede",
    ),
    _category(
        "suitcase",
        nouns=("suitcase, luggage, trolley case, travel case, cabin bag, carry-on, roller case, hard shell case"),
        cues=(
            "four spinner wheels, tsa lock, telescopic handle, cabin approved, check in size, expandable "
            "zip wheels, airline overhead locker, 360 degree wheels, holiday packing straps, airport "
            "roller, frequent flyer, boarding size wheels"
        ),
        uses=(
            "to pack clothes for a holiday, for checking in at the airport, what to bring on a plane, for "
            "frequent flyers"
        ),
        near="backpack, handbag, laptop bag, wallet",
        department="bags",
        sizes="litre",
        materials="plastic, aluminium, polyester",
    ),
    _category(
        "wallet",
        nouns=("wallet, billfold, card holder, coin purse, money clip, cardholder, pocket organiser, notecase"),
        cues=(
            "rfid blocking, bifold 8 slots, banknote compartment, credit cards and coins, slim front "
            "pocket, id window, trifold with zip coins, cash and cards, contactless theft protection, "
            "holds 12 cards, bank notes full size, pop up cards"
        ),
        uses=(
            "to keep my money in, for credit cards and cash, to carry coins and banknotes, protection for bank cards"
        ),
        near="handbag, phone case, backpack, suitcase",
        department="bags",
        materials="leather, canvas, aluminium",
    ),
    _category(
        "laptop bag",
        nouns=(
            "laptop bag, notebook sleeve, computer bag, laptop sleeve, laptop case, briefcase for laptop, "
            "macbook sleeve"
        ),
        cues=(
            "fits slim computer, padded computer compartment, neoprene sleeve for computers, shockproof "
            "ultrabook protector, charger pocket and computer slot, business messenger with computer "
            "pocket, protects macbook, chromebook protective cover, ultrabook envelope, trolley strap "
            "computer briefcase, tablet and computer folio, zip cover for computer"
        ),
        uses="to protect my computer on the way to work, cover for an ultrabook, to carry a macbook",
        near="laptop, backpack, phone case, handbag",
        department="bags",
        sizes="notebook",
        materials="leather, polyester, canvas",
    ),
    # ------------------------------------------------------------ furniture
    _category(
        "sofa",
        nouns="sofa, couch, settee, loveseat, chesterfield, divan, futon, sectional",
        cues=(
            "three seater, reclining living room, chaise longue corner, 2 seat upholstered, tufted back "
            "rolled arms, l-shaped modular lounge seating, deep cushions family room, pull out sleeper "
            "seating, movie night seating, armrest bolsters scatter cushions, seats four lounge, button "
            "back parlour"
        ),
        uses=(
            "seating for the living room, for the whole family to sit on and watch films, where guests "
            "sit in the lounge, to nap on in the living room"
        ),
        near="office chair, mattress, wardrobe, desk",
        department="furniture",
        sizes="width",
        materials="leather, velvet, linen, cotton",
    ),
    _category(
        "office chair",
        nouns=("office chair, desk chair, swivel chair, task chair, gaming chair, computer chair, executive seat"),
        cues=(
            "lumbar support swivel, adjustable armrests castors, gas lift headrest, ergonomic tilt seat, "
            "height adjustable on wheels, high back executive, five star base, rocking recline for "
            "gamers, spine friendly seat, 360 swivel padded seat, tilt lock castors, backrest angle lever"
        ),
        uses=("to sit at my workstation, seat for gamers, against back pain at the computer, rolling seat for work"),
        near="desk, sofa, bookshelf, wardrobe",
        department="furniture",
        materials="leather, mesh, velvet, polyester",
    ),
    _category(
        "desk",
        nouns=("desk, writing table, computer table, workstation, standing desk, bureau, work table, secretary table"),
        cues=(
            "height adjustable top, cable management tray, keyboard drawer, home office corner top, sit "
            "stand electric legs, study with drawers, monitor shelf workspace, l-shaped work top, "
            "homework table, gamer station with cup holder, motorised legs memory presets, writing "
            "surface with hutch"
        ),
        uses=(
            "where to put my computer and monitor, for doing homework at, surface to work at home, to write letters at"
        ),
        near="office chair, bookshelf, wardrobe, sofa",
        department="furniture",
        sizes="width",
        materials="wood, glass, steel",
    ),
    _category(
        "wardrobe",
        nouns=("wardrobe, closet, armoire, clothes cupboard, garment cabinet, clothing cabinet, clothes locker"),
        cues=(
            "sliding doors hanging rail, three door mirror, garments hanging space, bedroom storage 2 "
            "door with drawers, hanging rod portable, clothes storage shelves and rail, dressing mirror "
            "door, coat rail inside, hanger space bedroom, dust cover garment storage, shirts and suits "
            "rail, walk in hanging system"
        ),
        uses="to hang my clothes in, bedroom storage for suits and dresses, to store shirts on hangers",
        near="bookshelf, desk, sofa, mattress",
        department="furniture",
        sizes="width",
        materials="wood, steel, glass",
    ),
    _category(
        "bookshelf",
        nouns=("bookshelf, bookcase, book rack, shelving unit, library shelf, wall shelf, etagere, display shelves"),
        cues=(
            "five tier, holds novels and ornaments, ladder style tiers, open back 4 cube, library reading "
            "corner, floating tiers, display tiers for plants and books, tall narrow tiers, encyclopaedia "
            "storage, tiered organiser for paperbacks, industrial pipe tiers, adjustable tiers"
        ),
        uses=("to put my novels on, storage for a library, to display ornaments and paperbacks, where to keep books"),
        near="desk, wardrobe, sofa, office chair",
        department="furniture",
        sizes="width",
        materials="wood, steel, glass",
    ),
    _category(
        "mattress",
        nouns=("mattress, memory foam bed, pocket sprung bed, bed topper, futon mat, sleeping pad, box spring"),
        cues=(
            "orthopaedic firm, memory foam sleep, pocket springs 2000, king size sleep, back sleepers, "
            "cooling gel foam night, hypoallergenic sleep surface, medium firm bedroom, removable "
            "washable cover sleep, spring core night rest, restful slumber foam, side sleeper comfort "
            "zones"
        ),
        uses=("to sleep better at night, for back pain in bed, what to put on a bed frame, to lie on all night"),
        near="sofa, dog bed, rug, wardrobe",
        department="furniture",
        sizes="width",
        materials="latex, cotton, wool",
    ),
    # ------------------------------------------------------------ home textiles and light
    _category(
        "curtains",
        nouns=("curtains, drapes, blackout panels, window panels, drapery, voile panels, window hangings, net panels"),
        cues=(
            "blackout eyelet, room darkening pair, thermal insulated window, sheer voile window, rod "
            "pocket, pencil pleat, tie backs included, light blocking window, noise reducing window pair, "
            "grommet top, floor length window pair, pelmet and valance"
        ),
        uses=(
            "to keep the sun out of the bedroom, to cover a window, so that neighbours cannot look in, to darken a room"
        ),
        near="rug, lamp, mattress, wardrobe",
        department="home",
        sizes="width",
        materials="velvet, linen, cotton, polyester",
    ),
    _category(
        "lamp",
        nouns=("lamp, light, lantern, chandelier, floor lamp, bedside light, ceiling light, sconce, luminaire"),
        cues=(
            "dimmable led, e27 bulb socket, bedside reading glow, pendant ceiling fixture, touch control "
            "warm white, 800 lumen, adjustable gooseneck illumination, shade and tripod base, 3000 k "
            "glow, candle style 5 arm, nightstand glow usb, wall mounted illumination"
        ),
        uses=(
            "to read in bed at night, something to brighten a dark corner, illumination for the dining "
            "room, to see better in the evening"
        ),
        near="curtains, television, rug, bookshelf",
        department="home",
        materials="glass, steel, wood, cotton",
    ),
    _category(
        "rug",
        nouns="rug, carpet, floor mat, runner rug, area rug, doormat, kilim, persian carpet",
        cues=(
            "shaggy pile, hand woven oriental, anti slip floor, hallway runner, hand tufted, low pile "
            "geometric floor, soft underfoot, persian medallion floor, flat weave boho floor, bathroom "
            "floor absorbent, entrance floor, deep pile living room floor"
        ),
        uses=(
            "to cover the cold floor, soft thing underfoot in the living room, to hide stains on a floor, "
            "floor covering for a hallway"
        ),
        near="curtains, dog bed, mattress, slippers",
        department="home",
        sizes="width",
        materials="wool, cotton, jute, polyester",
    ),
    # ------------------------------------------------------------ kitchen
    _category(
        "kettle",
        nouns="kettle, water boiler, teakettle, electric jug, tea maker, gooseneck kettle, hot water pot",
        cues=(
            "boils water in 3 minutes, cordless boil dry protection, whistling stovetop, 2200 w rapid "
            "boil, limescale filter, 360 base auto shut off boil, pour over spout temperature, keeps "
            "water hot, tea time boil, gooseneck spout temperature hold, fast boil window, hot water for "
            "infusions"
        ),
        uses="to boil water, for making tea, to heat water for instant noodles, to get hot water fast",
        near="coffee machine, blender, frying pan, refrigerator",
        department="kitchen",
        sizes="litre-small",
        materials="steel, glass, plastic",
    ),
    _category(
        "frying pan",
        nouns="frying pan, skillet, wok, saute pan, griddle pan, frypan, omelette pan, crepe pan",
        cues=(
            "non stick induction, for eggs and pancakes, searing steaks, granite coating for bacon, stir "
            "fry, oven safe handle, deep sides for stir fries, pre seasoned, pfoa free coating, pancake "
            "flipping, sizzling steaks, fajita sizzler"
        ),
        uses="to make pancakes, cookware for eggs and bacon, to sear a steak, to stir fry vegetables in",
        near="knife set, kettle, blender, coffee machine",
        department="kitchen",
        sizes="pan",
        materials="iron, aluminium, steel, copper",
    ),
    _category(
        "coffee machine",
        nouns=(
            "coffee machine, coffee maker, espresso maker, cappuccino maker, percolator, barista machine, "
            "moka pot, french press"
        ),
        cues=(
            "15 bar pump, milk frother, burr grinder built in, capsule pods, latte and americano, drip "
            "carafe 12 cups, crema, portafilter steam wand, programmable brew, arabica brewing, lungo and "
            "ristretto, morning brew timer"
        ),
        uses=("to make espresso at home, for lattes and cappuccino, caffeine in the morning, to brew ground beans"),
        near="kettle, blender, refrigerator, frying pan",
        department="kitchen",
        sizes="litre-small",
        materials="steel, plastic, glass",
    ),
    _category(
        "blender",
        nouns=("blender, smoothie maker, liquidiser, mixer jug, food processor, juicer, hand blender, stick mixer"),
        cues=(
            "crushes ice, smoothies and shakes, 1200 w six blades, pulse function fruit, puree soups, "
            "protein shakes cup to go, nut butter and milkshakes, tamper jug, frozen fruit crushing, baby "
            "food puree, pesto and hummus, green juices"
        ),
        uses="to make smoothies, for pureeing soup, to crush ice for cocktails, to mix protein shakes",
        near="kettle, coffee machine, frying pan, knife set",
        department="kitchen",
        sizes="litre-small",
        materials="glass, plastic, steel",
    ),
    _category(
        "knife set",
        nouns=("knife set, kitchen knives, chef knife, cutlery block, carving knives, santoku, cook's blades, cleaver"),
        cues=(
            "forged blade, damascus, with wooden block and sharpener, razor sharp paring, full tang, "
            "boning and filleting, slicing and dicing, 6 piece block with scissors, edge retention, 20 cm "
            "blade, bread and tomato serrated, sushi slicing edge"
        ),
        uses="to cut vegetables and meat, for slicing sushi, to chop onions, sharp tools for a cook",
        near="frying pan, blender, drill, kettle",
        department="kitchen",
        materials="steel, ceramic, wood",
    ),
    # ------------------------------------------------------------ appliances
    _category(
        "refrigerator",
        nouns=("refrigerator, fridge, fridge freezer, icebox, cooler cabinet, larder fridge, minibar, freezer"),
        cues=(
            "no frost, salad crisper drawer, ice dispenser, french door cooling, under counter cooling, "
            "side by side cooling, egg and bottle rack, keeps groceries fresh, vegetable drawer cold "
            "zone, freezing compartment, dairy and meat chill zone, beverage chilling"
        ),
        uses=("to keep food cold, to chill milk and vegetables, cooling appliance for groceries, to make ice cubes"),
        near="washing machine, vacuum cleaner, blender, fan heater",
        department="appliances",
        sizes="litre-big",
        materials="steel, glass",
    ),
    _category(
        "washing machine",
        nouns=("washing machine, washer, laundry machine, washer dryer, clothes washer, front loader, top loader"),
        cues=(
            "1400 rpm spin, big load program, front loading drum, delicates and wool program, detergent "
            "dosing, quick 15 minutes cotton cycle, steam refresh for shirts, stain program, rinse and "
            "spin, laundry drum inverter motor, linens 60 degrees, child lock spin cycle"
        ),
        uses=(
            "to do the laundry, to clean dirty clothes, appliance for washing shirts and linen, to get "
            "stains out of clothes"
        ),
        near="refrigerator, vacuum cleaner, fan heater, wardrobe",
        department="appliances",
        sizes="load",
    ),
    _category(
        "vacuum cleaner",
        nouns=("vacuum cleaner, hoover, vac, dust sucker, stick vacuum, robot vacuum, cordless sweeper, dustbuster"),
        cues=(
            "hepa filter suction, bagless cyclone, pet hair floors, crevice tool, cordless 40 min "
            "suction, dust bin 0.8 l, hard floor and carpet brush, auto charging floor robot, mop and "
            "suction, upholstery turbo brush, allergen sealed suction, stairs and car suction"
        ),
        uses=("to get dust off the floor, to clean carpets, against pet hair on the floor, to suck up crumbs"),
        near="washing machine, lawn mower, rug, fan heater",
        department="appliances",
        sizes="watt",
    ),
    _category(
        "fan heater",
        nouns=("heater, radiator, space heater, fan heater, convector, oil radiator, electric fireplace, patio heater"),
        cues=(
            "ceramic ptc warmth, thermostat frost protection, oscillating warm air, oil filled fins, tip "
            "over switch warm, quartz infrared warmth, flame effect log, portable warmth for bathroom, "
            "warms up 20 sqm, towel rail warming, tilt protection glow, wall panel warmth"
        ),
        uses=(
            "to warm up a cold room, against freezing in winter in the office, to heat the bathroom, for cold garages"
        ),
        near="refrigerator, vacuum cleaner, kettle, lamp",
        department="appliances",
        sizes="watt",
    ),
    # ------------------------------------------------------------ electronics
    _category(
        "smartphone",
        nouns=("smartphone, mobile phone, cell phone, handset, cellphone, android phone, mobile, iphone alternative"),
        cues=(
            "dual sim unlocked, 5g big storage, sim free, 6.5 inch amoled, face unlock 4g, octa core 50 "
            "mp triple lens, esim, fast charge 5000 mah 5g, android 13, no contract, gorilla glass nfc "
            "calls, prepaid unlocked"
        ),
        uses=(
            "to make calls and send texts, device to text my friends, to use apps on the go, to phone my grandchildren"
        ),
        near="phone case, charger, smartwatch, laptop",
        department="electronics",
        sizes="storage",
    ),
    _category(
        "laptop",
        nouns=("laptop, notebook computer, ultrabook, chromebook, portable computer, macbook, netbook, notebook pc"),
        cues=(
            "core i7 16gb ram, ryzen 5 ssd, backlit keyboard windows 11, full hd ssd, touchpad hdmi ram "
            "8gb, rtx graphics 144 hz ram, convertible touch screen keyboard, linux ready ram, m2 chip "
            "retina, 512 gb nvme, intel celeron emmc, office home student preinstalled"
        ),
        uses=("computer for students, to program while travelling, pc to carry around, for spreadsheets on the train"),
        near="laptop bag, smartphone, television, charger",
        department="electronics",
        sizes="notebook",
    ),
    _category(
        "television",
        nouns="television, tv, smart tv, flat screen, telly, home cinema screen, tv set, big screen",
        cues=(
            "4k uhd hdr10, dolby vision, oled panel, netflix and youtube apps, dvb-t2 tuner, qled 120 hz, "
            "freeview, voice remote streaming, ultra hd ambilight, screen mirroring hdmi arc, vesa hd "
            "ready, 8k upscaling"
        ),
        uses=(
            "to watch movies in the living room, screen for football matches, to watch netflix at home, "
            "for the evening news"
        ),
        near="tv mount, laptop, headphones, camera",
        department="electronics",
        sizes="screen",
    ),
    _category(
        "headphones",
        nouns=("headphones, earphones, earbuds, headset, ear buds, in-ears, cans over-ear, airpods alternative"),
        cues=(
            "noise cancelling, over ear bluetooth 5.0, true wireless 30 h playtime, deep bass mic, "
            "silicone tips in ear, 3.5 mm jack stereo, foldable on ear, studio monitoring, gaming 7.1 "
            "surround mic boom, sweatproof music, hi res audio ear cushions, ambient sound mode"
        ),
        uses=(
            "to listen to music on the bus, to block out noise while flying, audio for jogging, sound only for my ears"
        ),
        near="smartphone, charger, television, smartwatch",
        department="electronics",
    ),
    _category(
        "camera",
        nouns=("camera, dslr, camcorder, mirrorless camera, digital camera, photo camera, action cam, system camera"),
        cues=(
            "24 megapixel aps-c, 18-55 mm lens kit, optical zoom 30x, full frame body, 4k vlogging flip "
            "screen, image stabilisation viewfinder, cmos sensor raw, f2.8 aperture, underwater 4k 60 fps "
            "wide angle, instant print film, telephoto bridge, shutter 1/8000"
        ),
        uses=("to take pictures of birds, for wedding photographers, to film my diving trips, to take portraits with"),
        near="smartphone, television, laptop, tv mount",
        department="electronics",
    ),
    _category(
        "smartwatch",
        nouns=(
            "smartwatch, fitness tracker, sports watch, activity band, smart watch, fitness band, gps watch, wearable"
        ),
        cues=(
            "heart rate monitor, step counter sleep, gps running wrist, spo2 amoled wrist, 50 m "
            "waterproof bluetooth calls wrist, counts calories, notifications on wrist, ecg wrist, "
            "pedometer band, vo2 max wrist, swim tracking strap, stress monitor wrist"
        ),
        uses="to count my steps, to measure my pulse, to track my sleep, to see notifications on my wrist",
        near="smartphone, charger, headphones, wallet",
        department="electronics",
        materials="steel, rubber, leather",
        for_people=True,
    ),
    # ------------------------------------------------------------ accessories
    _category(
        "phone case",
        nouns=(
            "phone case, phone cover, mobile cover, flip case for phone, bumper for phone, cellphone "
            "shell, handset sleeve"
        ),
        cues=(
            "shockproof for iphone 14, for galaxy s22 raised edges, magsafe back protector, flip with "
            "card slot for galaxy, clear anti yellow for iphone, drop tested for pixel 7, tpu for redmi, "
            "lanyard hole for iphone, kickstand for galaxy a53, slim fit for pixel, rugged armour for "
            "huawei, wallet style for oneplus"
        ),
        uses=(
            "to protect my phone when it falls, cover for my iphone, against scratches on my mobile, to "
            "make my phone prettier"
        ),
        near="smartphone, charger, laptop bag, wallet",
        department="accessories",
        materials="leather, rubber, plastic",
    ),
    _category(
        "charger",
        nouns=(
            "charger, power adapter, usb charger, power bank, charging cable, wall plug usb, charging "
            "station, power brick"
        ),
        cues=(
            "usb-c laptop power, gan fast pd, qi wireless pad, quick charge 3.0, dual port plug, 20000 "
            "mah external battery, lightning braided 2 m, 12v car socket usb, travel plug uk eu us, "
            "magsafe pad, type c fast power, multiport for iphone and ipad"
        ),
        uses=(
            "when my phone is out of battery, to power my phone, spare power for travelling, to fill up "
            "the battery of my mobile"
        ),
        near="smartphone, phone case, laptop, headphones",
        department="accessories",
        sizes="watt-small",
    ),
    _category(
        "tv mount",
        nouns=("tv mount, tv wall bracket, tv stand, television bracket, tv holder, screen wall mount, television arm"),
        cues=(
            "vesa 400x400 tilt swivel, full motion arm for flat panels, low profile wall for flat "
            "screens, max 45 kg for screens, bubble level wall arm for screens, ceiling pole for screens, "
            "fixed to wall for flat panels, articulating vesa 200, studs drywall screens, cantilever "
            "double arm vesa, height adjustable pole for screens, corner wall for flat screens"
        ),
        uses=("to hang my telly on the wall, to fix a flat screen above the fireplace, to hang up a big screen"),
        near="television, lamp, bookshelf, camera",
        department="accessories",
        sizes="screen",
        materials="steel, aluminium",
    ),
    # ------------------------------------------------------------ beauty
    _category(
        "perfume",
        nouns=("perfume, eau de parfum, fragrance, cologne, eau de toilette, aftershave, scent spray, body mist"),
        cues=(
            "top notes bergamot, vanilla and musk, floral jasmine spray, woody sandalwood, long lasting "
            "sillage, oud and amber, citrus heart notes, vaporisateur, patchouli base, rose oriental "
            "atomiser, fresh aquatic notes, tester flacon"
        ),
        uses="to smell nice, gift that smells of roses, smell for a date night, to spray on before a party",
        near="sunscreen, shampoo, handbag, lamp",
        department="beauty",
        sizes="ml",
        for_people=True,
    ),
    _category(
        "sunscreen",
        nouns=("sunscreen, sun cream, sunblock, sun lotion, spf cream, suntan lotion, sun milk, sun protection"),
        cues=(
            "spf 50 uva uvb, water resistant face spf, broad spectrum mineral, zinc oxide reef safe, no "
            "white cast spf, after beach spf 30, non greasy uv filter, factor 50 kids, anti sunburn, "
            "tinted spf 40, very high uv shield, tanning oil spf 15"
        ),
        uses=(
            "against sunburn, to protect my skin at the beach, lotion for a tropical holiday, to avoid uv "
            "damage to skin"
        ),
        near="shampoo, perfume, sandals, tent",
        department="beauty",
        sizes="ml",
    ),
    _category(
        "shampoo",
        nouns=(
            "shampoo, hair wash, hair cleanser, conditioner, hair soap, 2in1 hair care, anti-dandruff "
            "wash, hair shampoo bar"
        ),
        cues=(
            "anti dandruff, for oily scalp, argan oil for dry hair, sulfate free curls, keratin repair "
            "split ends, purple for blonde hair, tea tree scalp, volume for thin hair, detangling for "
            "long hair, colour treated hair, hair loss biotin, shiny hair coconut"
        ),
        uses="to wash my hair, for greasy hair, against dandruff, for an itchy scalp",
        near="sunscreen, perfume, washing machine, nappies",
        department="beauty",
        sizes="ml",
        for_people=True,
    ),
    # ------------------------------------------------------------ sport, garden and tools
    _category(
        "bicycle",
        nouns="bicycle, bike, mountain bike, road bike, mtb, e-bike, city bike, cruiser cycle, racing cycle",
        cues=(
            "21 speed disc brakes, off road wheels, shimano gears, hardtail suspension fork, step through "
            "basket, aluminium frame 700c, drop handlebar carbon fork, pedal assist 250w, kickstand "
            "mudguards, bmx freestyle, chain guard and bell, folding commuter wheels"
        ),
        uses=("to ride to work, two wheels to commute, to pedal in the countryside, for cycling in the mountains"),
        near="stroller, tent, dumbbells, lawn mower",
        department="outdoor",
        sizes="frame",
        materials="aluminium, steel, carbon",
        for_people=True,
    ),
    _category(
        "tent",
        nouns=("tent, camping shelter, dome shelter, bivouac, tipi, family camping dome, beach shelter, awning"),
        cues=(
            "pop up shelter, 3000 mm water column, poles and pegs, sewn in groundsheet, mosquito net "
            "vestibule, festival weekend shelter, tunnel with porch, geodesic expedition, quick pitch "
            "camping, sleeps the family outdoors, fibreglass poles, backpacking ultralight 1.8 kg"
        ),
        uses=(
            "to sleep outdoors at a festival, shelter for camping, to stay dry while camping, for a night in the woods"
        ),
        near="hiking boots, backpack, mattress, bicycle",
        department="outdoor",
        sizes="persons",
        materials="polyester, cotton, nylon",
    ),
    _category(
        "dumbbells",
        nouns=("dumbbells, hand weights, weights set, kettlebell, barbell, free weights, weight plates, dumb bells"),
        cues=(
            "hex rubber pair, adjustable dial pair, home gym lifting, neoprene coated pair, biceps curls, "
            "bodybuilding pair with rack, cast grip strength training, bench press discs, muscle building "
            "pair, vinyl coated workout, swing and squat iron ball, olympic discs 50 mm"
        ),
        uses=("to train my biceps, to build muscle at home, something heavy to lift, strength training at home"),
        near="bicycle, running shoes, smartwatch, drill",
        department="outdoor",
        sizes="kg",
        materials="iron, rubber, steel",
    ),
    _category(
        "lawn mower",
        nouns=(
            "lawn mower, lawnmower, grass cutter, strimmer, ride-on mower, robot mower, grass trimmer, garden mower"
        ),
        cues=(
            "cutting width 40 cm grass, grass box 50 l, self propelled petrol, mulching blade, 36 v "
            "cordless garden grass, cutting height 7 levels, boundary wire garden robot, hover garden "
            "grass, hedge and edge trimming line, 4 stroke turf, ride on tractor turf, rear roller "
            "stripes turf"
        ),
        uses=(
            "to cut the grass, for a large garden with long grass, to keep the turf short, when the yard is overgrown"
        ),
        near="vacuum cleaner, drill, bicycle, knife set",
        department="outdoor",
        sizes="watt",
    ),
    _category(
        "drill",
        nouns=(
            "drill, power drill, cordless screwdriver, hammer drill, impact driver, electric screwdriver, drill driver"
        ),
        cues=(
            "two batteries torque, 13 mm keyless chuck, torque 60 nm, sds plus masonry, brushless 2 "
            "gears, bits set case, concrete and brick rotary, screws and holes, percussion 850w, hex "
            "shank fastening, led worklight torque, right angle fastening"
        ),
        uses=(
            "to make holes in the wall, to hang up pictures in concrete, power tool for assembling "
            "furniture, to put in screws"
        ),
        near="lawn mower, knife set, vacuum cleaner, dumbbells",
        department="outdoor",
        sizes="volt",
    ),
    # ------------------------------------------------------------ family and pets
    _category(
        "stroller",
        nouns="stroller, pushchair, pram, buggy, baby carriage, baby buggy, travel system, baby jogger",
        cues=(
            "five point harness, from birth to 15 kg, carrycot and rain cover, one hand fold newborn, "
            "reversible seat infant, twin side by side infants, air tyres toddler ride, isofix car seat "
            "compatible, canopy and bassinet, parent tray swivel wheels, toddlers up to 22 kg, baby "
            "shopping basket wheels"
        ),
        uses=(
            "to take my baby for a walk, for pushing twins around, wheels for a newborn, to get around "
            "town with a toddler"
        ),
        near="bicycle, nappies, toy blocks, suitcase",
        department="family",
        materials="aluminium, polyester",
    ),
    _category(
        "toy blocks",
        nouns=(
            "building blocks, bricks toy, construction set, lego, stacking blocks, construction toy, building bricks"
        ),
        cues=(
            "creative play age 6+, build a castle, compatible with major brands studs, stem creative age "
            "8, magnetic tiles kids, spaceship build, fire station build, minifigures included, police "
            "car build, robot build kids coding, alphabet cubes toddlers, pirate ship age 7"
        ),
        uses=(
            "gift for a 6 year old who likes to build, to build castles with my kids, creative toy for a "
            "boy, to keep children busy building"
        ),
        near="stroller, nappies, dog bed, bookshelf",
        department="family",
        sizes="pieces",
        materials="plastic, wood",
    ),
    _category(
        "nappies",
        nouns=(
            "nappies, diapers, baby pants, pull ups, newborn nappies, training pants, huggies alternative, swim diapers"
        ),
        cues=(
            "size 4 9-14 kg, 12 h leak protection, wetness indicator, newborn 2-5 kg, overnight dry baby, "
            "umbilical cut out, monthly box baby, potty training, soft baby bottom, absorbent core baby, "
            "anti leak cuffs, baby dry nights"
        ),
        uses=("to keep my baby dry, what to change a newborn with, for potty training, when the baby leaks at night"),
        near="stroller, toy blocks, shampoo, dog bed",
        department="family",
        sizes="pieces",
        materials="cotton, bamboo",
    ),
    _category(
        "dog bed",
        nouns="dog bed, pet bed, cat bed, dog cushion, dog basket, puppy bed, pet sofa, kennel pad",
        cues=(
            "washable for labradors, orthopaedic for old paws, donut calming for pets, bolster for large "
            "breeds, chew resistant crate pad, puppies and kittens nest, fluffy nest for cats, raised cot "
            "for canines, paw print cushion, terrier snuggle, hound lounger, feline cave"
        ),
        uses=(
            "where my puppy can sleep, cosy place for a labrador, for my old poodle to rest, place for a kitten to nap"
        ),
        near="mattress, sofa, rug, toy blocks",
        department="family",
        sizes="width",
        materials="cotton, velvet, polyester",
    ),
)

COLOURLESS = frozenset(("perfume", "sunscreen", "shampoo", "nappies", "mattress", "charger"))
"""Categories that nobody chooses by colour."""

GROUPS: dict[str, tuple[str, ...]] = {
    "footwear": ("running shoes", "hiking boots", "formal shoes", "sandals", "slippers"),
    "clothing": ("jacket", "sweater", "trousers", "t-shirt", "dress"),
    "apparel": ("jacket", "sweater", "trousers", "t-shirt", "dress"),
    "furniture": ("sofa", "office chair", "desk", "wardrobe", "bookshelf", "mattress"),
    "white goods": ("refrigerator", "washing machine"),
    "kitchenware": ("frying pan", "kettle", "blender", "knife set", "coffee machine"),
    "garden and diy": ("lawn mower", "drill"),
    "baby supplies": ("nappies", "stroller"),
}
"""Words wider than a category, and all categories that they cover."""

COLOURS = {
    plain: (plain, *_split(others))
    for plain, others in {
        "red": "crimson, scarlet, ruby, cherry red, burgundy, maroon, vermilion, wine red",
        "blue": "navy, azure, cobalt, sapphire, royal blue, indigo, denim blue, sky blue",
        "green": "emerald, olive, mint green, forest green, lime, sage green, khaki green, jade",
        "black": "jet black, ebony, onyx, charcoal black, midnight black, noir, raven, pitch black",
        "white": "ivory, snow white, off-white, pearl white, alabaster, chalk, arctic white, porcelain white",
        "yellow": "lemon, mustard, canary, sunflower yellow, saffron, amber yellow, golden yellow, daffodil",
        "brown": "chocolate, chestnut, tan, cognac, mocha, coffee brown, hazel, walnut brown",
        "grey": "gray, slate, ash grey, graphite, anthracite, pewter, stone grey, smoke grey",
        "pink": "rose, fuchsia, blush, magenta, salmon pink, hot pink, bubblegum, coral pink",
        "purple": "violet, lavender, plum, lilac, mauve, aubergine, amethyst, grape",
    }.items()
}

MATERIALS = {
    plain: (plain, *_split(others))
    for plain, others in {
        "leather": "cowhide, nappa, full grain leather, calfskin, saddle leather, genuine leather",
        "suede": "nubuck, suede leather, brushed suede, velour leather",
        "canvas": "sailcloth, duck canvas, waxed canvas, heavy canvas",
        "mesh": "knit mesh, air mesh, netting, airy mesh",
        "rubber": "silicone, natural rubber, soft rubber, caoutchouc",
        "cork": "natural cork, cork oak, pressed cork",
        "wool": "woollen, merino, lambswool, cashmere, alpaca, sheep wool",
        "cotton": "pure cotton, organic cotton, egyptian cotton, cotton twill, pima cotton, percale",
        "polyester": "microfibre, polyester blend, fleece polyester, recycled polyester",
        "linen": "flax, linen weave, pure linen, flaxen",
        "silk": "mulberry silk, satin silk, silken, pure silk",
        "velvet": "velour, crushed velvet, plush velvet, velveteen",
        "plastic": "polycarbonate, abs plastic, acrylic, polypropylene",
        "aluminium": "aluminum, alloy, alu, light alloy",
        "steel": "stainless steel, inox, satin steel, brushed steel, chrome steel",
        "iron": "cast iron, cast-iron, wrought iron, enamelled iron",
        "copper": "hammered copper, copper core, pure copper",
        "glass": "tempered glass, crystal, borosilicate, frosted glass",
        "wood": "wooden, oak, walnut wood, pine, beech, bamboo wood, solid timber, mahogany",
        "ceramic": "porcelain, stoneware, zirconia ceramic, earthenware",
        "latex": "natural latex, talalay latex, latex foam",
        "jute": "sisal, hemp, seagrass, burlap",
        "carbon": "carbon fibre, carbon fiber, full carbon",
        "nylon": "ripstop nylon, polyamide, cordura",
        "bamboo": "bamboo viscose, bamboo fibre, bamboo fabric",
    }.items()
}

PEOPLE = {
    "men": _split("men, mens, for him, gents, male, for my husband, gentlemen, for dad"),
    "women": _split("women, womens, for her, ladies, female, for my wife, lady, for mum"),
    "kids": _split("kids, children, junior, for boys and girls, youth, for my son, childrens, for schoolchildren"),
}

SIZES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "shoe": (("36", "38", "40", "42", "44"), ("size {}", "eu {}", "sz {}")),
    "clothes": (("s", "m", "l", "xl"), ("size {}", "{}", "sz {}")),
    "litre": (("20", "30", "45", "65", "90"), ("{} l", "{}l", "{} litre", "{} liters")),
    "litre-small": (("0.8", "1", "1.5", "1.7", "2"), ("{} l", "{}l", "{} litre")),
    "litre-big": (("120", "200", "310", "420"), ("{} l", "{}l", "{} litre")),
    "notebook": (("11", "13", "14", "15.6", "17"), ("{} inch", "{}in", '{}"')),
    "screen": (("32", "43", "50", "55", "65", "75"), ("{} inch", "{}in", '{}"')),
    "width": (("80", "100", "120", "160", "200"), ("{} cm", "{}cm", "width {}")),
    "pan": (("20", "24", "28", "32"), ("{} cm", "{}cm", "diameter {}")),
    "load": (("6", "7", "8", "9", "10"), ("{} kg", "{}kg")),
    "kg": (("2", "5", "10", "16", "24"), ("{} kg", "{}kg", "{} kilo")),
    "watt": (("600", "800", "1200", "2000"), ("{} w", "{}w", "{} watt")),
    "watt-small": (("20", "30", "45", "65"), ("{} w", "{}w", "{} watt")),
    "volt": (("12", "18", "20", "36"), ("{} v", "{}v", "{} volt")),
    "storage": (("64", "128", "256", "512"), ("{}gb", "{} gb", "{} gigabyte")),
    "ml": (("30", "50", "100", "200", "400"), ("{} ml", "{}ml")),
    "frame": (("24", "26", "28", "29"), ("{} inch", "{}in", '{}"')),
    "persons": (("2", "3", "4", "6"), ("{} person", "{} man", "{} persons")),
    "pieces": (("60", "120", "250", "500"), ("{} pcs", "{} pieces", "{} pack")),
}
"""Values, and the ways to write them."""

BRANDS: dict[str, tuple[str, ...]] = {
    "shoes": _split("Velmora, Striden, Oakhaven, Pondera, Kestrel & Co, Tarrow, Lumio"),
    "clothes": _split("Velmora, Oakhaven, Brightwell, Nordfjell, Tarrow, Mirelle, Pondera"),
    "bags": _split("Tarrow, Mirelle, Nordfjell, Kestrel & Co, Voyantis, Brightwell"),
    "furniture": _split("Hemsta, Woodrell, Casabel, Linnea Home, Brightwell, Orvane"),
    "home": _split("Hemsta, Casabel, Linnea Home, Lumio, Orvane, Mirelle"),
    "kitchen": _split("Kordia, Brewmont, Casabel, Zenko, Orvane, Halvik"),
    "appliances": _split("Kordia, Zenko, Halvik, Borealis, Technora, Maxwind"),
    "electronics": _split("Zenko, Technora, Quantix, Novalis, Orbitron, Lumio, Pixora"),
    "accessories": _split("Quantix, Voltera, Orbitron, Pixora, Zenko, Technora"),
    "beauty": _split("Mirelle, Solenne, Aquaria, Lumio, Florabelle, Dermaly"),
    "outdoor": _split("Nordfjell, Striden, Maxwind, Voltera, Borealis, Halvik, Gripline"),
    "family": _split("Lumio, Pawsome, Tiddly, Brightwell, Hemsta, Linnea Home"),
}
"""Invented brands; most make more than one kind of thing, so a brand does not give the category away."""

SERIES = _split(
    "Aero, Nova, Prime, Classic, Urban, Vista, Pulse, Comfort, Elite, Zen, Flow, Origin, Spark, Titan, Breeze, Orbit, "
    "Summit, Harmony, Fusion, Eco, Alpha, Orion, Luna, Metro"
)

NOISE = _split(
    "new, 2024 model, best seller, free delivery, original, premium quality, top rated, limited edition, gift idea, "
    "with warranty, sale, hot deal, official store, in stock, brand new in box, fast dispatch, easy returns, "
    "eco packaging"
)
"""What sellers put into titles and nobody searches for."""

LEAD_INS = _split("buy, cheap, best, looking for, i need, good, where to get, affordable, top, nice")
"""What people put into queries and no product carries."""
