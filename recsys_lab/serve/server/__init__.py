"""`recsys-lab serve`: a trained model behind HTTP, with the events of its users. Needs the extra `serve`; nothing else
of recsys_lab imports this room.
"""
