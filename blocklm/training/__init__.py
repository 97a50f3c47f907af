"""A corpus and a plan that fits become a trained adapter: data order, trainer, planning, callbacks, monitoring.

trainer = build_trainer(recipe, args, base, reading, validation, interrupts)
report = train(trainer, interrupts)
"""
